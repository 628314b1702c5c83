package confine

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Syscalls restricts which system calls the process may make, on all its threads. It
// is the last step: a module has loaded its library and logged in before.
//
// A refused call returns EPERM, so that a library which probes for a feature goes on
// without it; ENOSYS where libraries know a way around only for that. A call of
// another architecture's table ends the process.
func (c *Confinement) Syscalls() error {
	if err := c.enter(syscalls); err != nil {
		return err
	}
	native, err := arch.GetInfo("")
	if err != nil {
		c.note("seccomp", Off, "no system call table for "+runtime.GOARCH)
		return nil
	}
	program, err := filter(c.policy(native), native)
	if err != nil {
		return err
	}
	switch err := load(program); {
	case err == nil:
		c.note("seccomp", On, "")
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL):
		c.note("seccomp", Off, "the kernel has no seccomp filters")
	default:
		return fmt.Errorf("confine: seccomp: %w", err)
	}
	return nil
}

func (c *Confinement) policy(native *arch.Info) seccomp.Policy {
	switch c.kind {
	case Front:
		return frontPolicy(native, os.Getpid(), len(c.network) > 0, c.profiled)
	case Unlock:
		return unlockPolicy(native, os.Getpid(), len(c.network) > 0)
	}
	return modulePolicy(native, os.Getpid(), len(c.network) > 0)
}

// Offsets in struct seccomp_data, in bytes.
const (
	offsetNumber = 0
	offsetArch   = 4
)

// newestKnown is the highest system call number that the policies have been written
// for (open_tree_attr, Linux 6.15). Numbers have been the same on every architecture
// since 424.
const newestKnown = 467

// refuseMissing answers as a kernel that does not have the call.
const refuseMissing = seccomp.ActionErrno | seccomp.Action(unix.ENOSYS)

// filter assembles a policy and puts in front of it what holds for every policy: the
// assembled policy applies its default to calls of another architecture, which in a
// list of what is forbidden would allow all of them; and calls newer than the
// policies would not be on such a list.
func filter(policy seccomp.Policy, native *arch.Info) ([]bpf.RawInstruction, error) {
	assembled, err := policy.Assemble()
	if err != nil {
		return nil, fmt.Errorf("confine: assemble the system call filter: %w", err)
	}
	program := append([]bpf.Instruction{
		bpf.LoadAbsolute{Off: offsetArch, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(native.ID), SkipTrue: 1},
		bpf.RetConstant{Val: uint32(seccomp.ActionKillProcess)},
		bpf.LoadAbsolute{Off: offsetNumber, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: newestKnown, SkipFalse: 1},
		bpf.RetConstant{Val: uint32(refuseMissing)},
	}, assembled...)
	raw, err := bpf.Assemble(program)
	if err != nil {
		return nil, fmt.Errorf("confine: assemble the system call filter: %w", err)
	}
	return raw, nil
}

// load installs a filter on all threads. The library's own loader takes a thread that
// could not be synchronised, which the kernel reports as a positive result, for
// success.
func load(program []bpf.RawInstruction) error {
	instructions := make([]unix.SockFilter, len(program))
	for i, p := range program {
		instructions[i] = unix.SockFilter{Code: p.Op, Jt: p.Jt, Jf: p.Jf, K: p.K}
	}
	prog := unix.SockFprog{Len: uint16(len(instructions)), Filter: &instructions[0]}
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(instructions)
	switch {
	case errno != 0:
		return errno
	case thread != 0:
		return fmt.Errorf("thread %d could not be given the filter", thread)
	}
	return nil
}

// present returns the names that an architecture has: newer ones lack the older
// spelling of many calls.
func present(native *arch.Info, names []string) []string {
	var found []string
	for _, name := range names {
		if _, ok := native.SyscallNames[name]; ok {
			found = append(found, name)
		}
	}
	return found
}

// when is a call under a condition that all the comparisons must meet.
func when(name string, comparisons ...seccomp.Condition) seccomp.NameWithConditions {
	return seccomp.NameWithConditions{Name: name, Conditions: comparisons}
}

func compare(argument uint32, operation seccomp.Operation, value uint64) seccomp.Condition {
	return seccomp.Condition{Argument: argument, Operation: operation, Value: value}
}
