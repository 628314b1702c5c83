// Package supervisor starts keyd's processes, watches them and starts them again.
//
// The supervisor has no listener that it serves, reads nothing that comes from
// outside and opens no database. It starts one front and a number of modules as
// siblings, so that neither inherits the other's confinement. All run the
// supervisor's own binary with an internal command, an environment of nothing but
// what [Config] lists, and the descriptors their flags name:
//
//	unlock     --pin-fd [--input-fd] [files]       writes the token PIN, see package pinfile
//	renew      [--input-fd] [files]                runs at intervals, where there is something to renew
//	provision  --pin-fd --output-fd [--input-fd] [files]   runs once, before the first front
//	front      --control-fd --listen-fd [--admin-fd] [--web-fd] [--provision-fd] [files]
//	module     --control-fd --pin-fd [files] --module I
//
// Standard input and output of a child are /dev/null and standard error. The control
// socket is described in package child. The bound TCP socket stays open here, never
// accepted from, so that a new front finds the port and the connections that wait; it
// is made anew if a front has shut it down.
//
// A reload opens the files of [Config] anew and hands their descriptors to the front, which
// says whether it uses them. A service manager is told what happens (package notify).
//
// Whoever dies is replaced: at once the first time, then after pauses from 100 ms
// doubling to 5 s, until it has been ready for 10 s. A child that leaves four pings, 250 ms
// apart, unanswered is killed, and one that is not ready 20 s after its start; the front's
// time stands still while no module is ready. Time is counted in the supervisor's own
// ticks, so that a machine that was suspended kills nobody on waking.
//
// Until the front has been ready once, or any module, a child of that kind that ends
// with [ExitPermanent] or does not become ready five times in a row ends everything.
// Later the front is started again whatever its status, so that a front which was
// taken over cannot end the service; a module that ends with [ExitPermanent] is not
// started again, and everything ends with the last of them. Others are tried without limit.
//
// While no module is ready, modules start one after the other: with a wrong PIN the
// token then sees one attempt and not one for each module.
//
// Only keyd serve and keyd dev call this package.
package supervisor
