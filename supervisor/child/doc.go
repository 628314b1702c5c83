// Package child is the side of the supervisor's control socket that a front or a
// module holds.
//
// A child is started with --control-fd N. It calls [Connect] first of all, confines
// itself, calls [Control.Ready] when it can serve, takes the descriptors that join it
// to the other kind of process from [Control.Channels], and drains and ends when
// [Control.Stopping] is closed. Heartbeats are answered in the background. When the
// supervisor has gone, the process ends at once, whatever it is doing.
//
// The socket is of type SOCK_SEQPACKET: one message each. Towards the child a message
// is a JSON object ([Message]), with one descriptor where its type is "channel" and one for
// each file where it is "reload".
// Towards the supervisor it is exactly five bytes, so that the supervisor has nothing
// to parse: 'R' (ready) and four zeros; 'P' (pong) and the number of the ping, big
// endian; 'L' (loaded) or 'K' (kept what it had) and the number of the reload. The
// supervisor kills a child that sends anything else.
//
// Only the processes which the supervisor starts use this package.
package child
