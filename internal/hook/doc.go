// Package hook runs what operators attached to an event: a command, an HTTP
// request, or an action that is built in.
//
// A Hook makes one attempt; when to try, again and for how long, and that one
// runs at a time in a cluster, is up to package rule.
//
// Before it acts, a hook reads the truth again: an event is news of the past,
// and what it said may be over. Then the hook is skipped, and the receipt says
// so. (`always: true` runs it all the same.)
//
// # Commands
//
// A command is run without a shell, in a process group of its own, with the
// event as CloudEvents JSON on its standard input and an environment that has
// nothing but PATH, LANG, HOME, what PERDURE_… says about the run, and the
// secrets named for it. If this node runs as root, the command runs as the
// configured user, nobody by default, without further groups. Its output is
// read to the end and its beginning kept. At the end of its time, and when it
// ended and left processes behind, the whole group is killed. Exit code 0 is
// success; 99 says that trying again is of no use.
//
// PERDURE_ID is the same for every attempt of one run: a command that must not
// act twice keeps the ids it has acted on.
//
// # HTTP
//
// The event is sent as a channel's webhook is: signed, with the id in the
// webhook-id header. A status of 2xx is success; 400, 410, 413 and 422 say
// that trying again is of no use.
package hook
