// Package confine is what a front or a module does to itself before it meets input
// from outside, and an unlock that talks to Vault.
//
// The order is fixed, because every step takes away what an earlier one needs:
//
//	Early        no core files, not dumpable, dies with the supervisor, no new
//	             privileges, capabilities dropped, and in a module memory locked
//	Filesystem   Landlock: files, TCP ports, signals and abstract sockets
//	             (a module now loads its PKCS#11 library and logs in)
//	Syscalls     seccomp: the front may make the system calls it needs, a module none
//	             that it cannot need
//
// Every step covers all threads of the process, those of C libraries included.
//
// What the machine does not permit is not an error: it is written down in the
// [Report], with the reason, and keyd status shows it. A mistake of the caller, or a
// refusal that the kernel has no right to, is an error, and the process must end.
//
// Only the processes which the supervisor starts call this package.
package confine
