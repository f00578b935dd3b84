#!/bin/sh
# $1 is "upgrade" (deb) or 1 (rpm) when another version follows at once.
set -e
case "${1:-}" in upgrade | 1) exit 0 ;; esac
if [ -d /run/systemd/system ]; then
  systemctl disable --now perdure.service || true
fi
