#!/bin/sh
# Makes the account of the node. Nothing is started: there is nothing to start
# before somebody wrote /etc/perdure/perdure.yaml.
set -e
getent group perdure >/dev/null || groupadd --system perdure
getent passwd perdure >/dev/null || \
  useradd --system --gid perdure --home-dir /var/lib/perdure --no-create-home --shell /usr/sbin/nologin perdure
install -d -o perdure -g perdure -m 0700 /var/lib/perdure
chown root:perdure /etc/perdure
chmod 0750 /etc/perdure
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload || true
  # An upgrade: the node is back in a moment, and another one leads meanwhile.
  systemctl try-restart perdure.service || true
fi
