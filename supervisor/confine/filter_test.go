package confine

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// decide runs a filter over a call, as the kernel would. The kernel reads its own byte
// order, the virtual machine big endian: words are stored so that each gets its own.
func decide(t *testing.T, policy seccomp.Policy, a *arch.Info, auditArch uint32, number uint32, args ...uint64) seccomp.Action {
	t.Helper()
	raw, err := filter(policy, a)
	if err != nil {
		t.Fatal(err)
	}
	program, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatal("filter cannot be read back")
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 64)
	binary.BigEndian.PutUint32(data[offsetNumber:], number)
	binary.BigEndian.PutUint32(data[offsetArch:], auditArch)
	for i, arg := range args {
		binary.BigEndian.PutUint32(data[16+8*i:], uint32(arg))
		binary.BigEndian.PutUint32(data[20+8*i:], uint32(arg>>32))
	}
	action, err := vm.Run(data)
	if err != nil {
		t.Fatal(err)
	}
	return seccomp.Action(uint32(action))
}

const eperm = seccomp.ActionErrno | seccomp.Action(unix.EPERM)

// A list of what is forbidden must not let through what has other numbers.
func TestForeignAndNewCalls(t *testing.T) {
	native := arch.X86_64
	for name, policy := range map[string]seccomp.Policy{
		"front": frontPolicy(native, 1, false, false), "module": modulePolicy(native, 1, false), "network module": modulePolicy(native, 1, true),
	} {
		if got := decide(t, policy, native, uint32(arch.I386.ID), 11); got != seccomp.ActionKillProcess { // execve of i386
			t.Errorf("%s: call of i386: %v", name, got)
		}
		if got := decide(t, policy, native, uint32(native.ID), 0x40000000|59); got != refuseMissing { // execve of x32
			t.Errorf("%s: call of x32: %v", name, got)
		}
		if got := decide(t, policy, native, uint32(native.ID), newestKnown+1); got != refuseMissing {
			t.Errorf("%s: newer call: %v", name, got)
		}
		if got := decide(t, policy, native, uint32(native.ID), unix.SYS_READ); got != seccomp.ActionAllow {
			t.Errorf("%s: read: %v", name, got)
		}
		if got := decide(t, policy, native, uint32(native.ID), unix.SYS_EXECVE); got != eperm {
			t.Errorf("%s: execve: %v", name, got)
		}
	}
}

func TestArguments(t *testing.T) {
	native, pid := arch.X86_64, uint64(4711)
	front := frontPolicy(native, int(pid), false, false)
	frontNet := frontPolicy(native, int(pid), true, false)
	profiled := frontPolicy(native, int(pid), false, true)
	module := modulePolicy(native, int(pid), false)
	moduleNet := modulePolicy(native, int(pid), true)
	for _, test := range []struct {
		name   string
		policy seccomp.Policy
		call   string
		args   []uint64
		want   seccomp.Action
	}{
		{"front maps data", front, "mmap", []uint64{0, 4096, unix.PROT_READ | unix.PROT_WRITE}, seccomp.ActionAllow},
		{"front maps code", front, "mmap", []uint64{0, 4096, unix.PROT_READ | unix.PROT_EXEC}, eperm},
		{"front makes code", front, "mprotect", []uint64{0, 4096, unix.PROT_EXEC}, eperm},
		{"front starts a thread", front, "clone", []uint64{unix.CLONE_VM | unix.CLONE_THREAD}, seccomp.ActionAllow},
		{"front forks", front, "clone", []uint64{unix.CLONE_VM | unix.CLONE_VFORK}, eperm},
		{"front signals itself", front, "tgkill", []uint64{pid, 1}, seccomp.ActionAllow},
		{"front signals another", front, "tgkill", []uint64{pid + 1, 1}, eperm},
		{"front reads a limit", front, "prlimit64", []uint64{0, unix.RLIMIT_CORE, 0}, seccomp.ActionAllow},
		{"front sets a limit", front, "prlimit64", []uint64{0, unix.RLIMIT_CORE, 0x1000}, eperm},
		{"front reads another's limit", front, "prlimit64", []uint64{pid + 1, unix.RLIMIT_CORE, 0}, eperm},
		{"front names a thread", front, "prctl", []uint64{unix.PR_SET_NAME}, seccomp.ActionAllow},
		{"front becomes dumpable", front, "prctl", []uint64{unix.PR_SET_DUMPABLE, 1}, eperm},
		{"front makes a socket", front, "socket", []uint64{unix.AF_INET, unix.SOCK_STREAM, 0}, eperm},
		{"front connects", front, "connect", []uint64{3}, eperm},
		{"networked front makes a socket", frontNet, "socket", []uint64{unix.AF_INET6, unix.SOCK_STREAM, 0}, seccomp.ActionAllow},
		{"networked front uses MPTCP", frontNet, "socket", []uint64{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP}, eperm},
		{"networked front uses MPTCP, wide", frontNet, "socket", []uint64{unix.AF_INET, unix.SOCK_STREAM, 1<<32 | unix.IPPROTO_MPTCP}, eperm},
		{"networked front makes another socket", frontNet, "socket", []uint64{unix.AF_UNIX, unix.SOCK_STREAM, 0}, eperm},
		{"networked front makes a socket as Go does", frontNet, "socket", []uint64{unix.AF_INET, unix.SOCK_STREAM | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK, unix.IPPROTO_TCP}, seccomp.ActionAllow},
		{"networked front makes a datagram socket", frontNet, "socket", []uint64{unix.AF_INET, unix.SOCK_DGRAM | unix.SOCK_CLOEXEC, 0}, eperm},
		{"networked front makes a raw socket", frontNet, "socket", []uint64{unix.AF_INET, unix.SOCK_RAW, 0}, eperm},
		{"networked front makes a SEQPACKET socket", frontNet, "socket", []uint64{unix.AF_INET, unix.SOCK_SEQPACKET, 0}, eperm},
		{"networked front connects by sending", frontNet, "sendto", []uint64{3, 0x1000, 1, unix.MSG_FASTOPEN}, eperm},
		{"networked front connects by a message", frontNet, "sendmsg", []uint64{3, 0x1000, unix.MSG_FASTOPEN}, eperm},
		{"front sets a timer", front, "setitimer", []uint64{unix.ITIMER_PROF}, eperm},
		{"profiled front sets a timer", profiled, "timer_create", []uint64{1}, seccomp.ActionAllow},
		{"networked front listens", frontNet, "listen", []uint64{3}, eperm},
		{"front takes a lock", front, "fcntl", []uint64{3, unix.F_SETLK, 0x1000}, seccomp.ActionAllow},
		{"front takes an open file lock", front, "fcntl", []uint64{3, unix.F_OFD_SETLKW, 0x1000}, seccomp.ActionAllow},
		{"front does not block", front, "fcntl", []uint64{3, unix.F_SETFL, unix.O_NONBLOCK | unix.O_APPEND}, seccomp.ActionAllow},
		{"front asks for signals", front, "fcntl", []uint64{3, unix.F_SETFL, unix.O_NONBLOCK | unix.O_ASYNC}, eperm},
		{"front names who is signalled", front, "fcntl", []uint64{3, unix.F_SETOWN, 1}, eperm},
		{"front names who is signalled, wide", front, "fcntl", []uint64{3, 1<<32 | unix.F_SETOWN, 1}, eperm},
		{"front names who is signalled, newer", front, "fcntl", []uint64{3, unix.F_SETOWN_EX, 0x1000}, eperm},
		{"front names the signal", front, "fcntl", []uint64{3, unix.F_SETSIG, uint64(unix.SIGKILL)}, eperm},
		{"front sends without delay", front, "setsockopt", []uint64{3, unix.IPPROTO_TCP, unix.TCP_NODELAY, 0x1000, 4}, seccomp.ActionAllow},
		{"front filters a socket", front, "setsockopt", []uint64{3, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, 0x1000, 16}, eperm},
		{"front filters a socket, wide", front, "setsockopt", []uint64{3, unix.SOL_SOCKET, 1<<32 | unix.SO_ATTACH_FILTER, 0x1000, 16}, eperm},
		{"front locks a filter", front, "setsockopt", []uint64{3, unix.SOL_SOCKET, unix.SO_LOCK_FILTER, 0x1000, 4}, eperm},
		{"front leases", front, "fcntl", []uint64{3, unix.F_SETLEASE, unix.F_RDLCK}, eperm},
		{"networked front names who is signalled", frontNet, "fcntl", []uint64{3, unix.F_SETOWN, 1}, eperm},
		{"front sends", front, "sendto", []uint64{3, 0x1000, 1, unix.MSG_NOSIGNAL}, seccomp.ActionAllow},
		{"front sends urgent data", front, "sendto", []uint64{3, 0x1000, 1, unix.MSG_NOSIGNAL | unix.MSG_OOB}, eperm},
		{"front sends an urgent message", front, "sendmsg", []uint64{3, 0x1000, unix.MSG_OOB}, eperm},
		{"front receives", front, "recvfrom", []uint64{3, 0x1000, 1, unix.MSG_PEEK}, seccomp.ActionAllow},
		{"front receives urgent data", front, "recvfrom", []uint64{3, 0x1000, 1, unix.MSG_OOB}, eperm},
		{"front receives a message", front, "recvmsg", []uint64{3, 0x1000, unix.MSG_CMSG_CLOEXEC}, seccomp.ActionAllow},
		{"front receives an urgent message", front, "recvmsg", []uint64{3, 0x1000, unix.MSG_OOB}, eperm},

		{"module maps code", module, "mmap", []uint64{0, 4096, unix.PROT_READ | unix.PROT_EXEC}, seccomp.ActionAllow},
		{"module maps writable code", module, "mmap", []uint64{0, 4096, unix.PROT_WRITE | unix.PROT_EXEC}, eperm},
		{"module starts a thread", module, "clone", []uint64{unix.CLONE_VM | unix.CLONE_THREAD}, seccomp.ActionAllow},
		{"module forks", module, "clone", []uint64{uint64(unix.SIGCHLD)}, eperm},
		{"module signals itself", module, "tgkill", []uint64{pid, 1}, seccomp.ActionAllow},
		{"module signals another", module, "kill", []uint64{pid + 1, 9}, eperm},
		{"module reads another's limit", module, "prlimit64", []uint64{pid + 1}, eperm},
		{"module reads its limit", module, "prlimit64", []uint64{pid}, seccomp.ActionAllow},
		{"module names a thread", module, "prctl", []uint64{unix.PR_SET_NAME}, seccomp.ActionAllow},
		{"module becomes dumpable", module, "prctl", []uint64{unix.PR_SET_DUMPABLE, 1}, eperm},
		{"module becomes dumpable, wide", module, "prctl", []uint64{1<<32 | unix.PR_SET_DUMPABLE, 1}, eperm},
		{"module makes a socket", module, "socket", []uint64{unix.AF_INET}, eperm},
		{"networked module makes a socket", moduleNet, "socket", []uint64{unix.AF_INET, unix.SOCK_STREAM, 0}, seccomp.ActionAllow},
		{"networked module makes another socket", moduleNet, "socket", []uint64{unix.AF_NETLINK, unix.SOCK_RAW, 0}, eperm},
		{"networked module binds", moduleNet, "bind", []uint64{3}, eperm},
	} {
		number, ok := native.SyscallNames[test.call]
		if !ok {
			t.Fatal("no system call", test.call)
		}
		if got := decide(t, test.policy, native, uint32(native.ID), uint32(number), test.args...); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

// A misspelt name would be dropped as one that the architecture lacks.
func TestEveryNameIsASystemCall(t *testing.T) {
	known := func(name string) bool {
		for _, a := range []*arch.Info{arch.X86_64, arch.AARCH64, arch.I386} {
			if _, ok := a.SyscallNames[name]; ok {
				return true
			}
		}
		return false
	}
	for _, name := range slices.Concat(frontAllowed, frontProfiled, frontMissing, moduleForbidden, moduleNetwork, moduleMissing) {
		if !known(name) {
			t.Errorf("%s is no system call", name)
		}
	}
	for _, a := range []*arch.Info{arch.X86_64, arch.AARCH64} { // calls under conditions have one spelling
		for _, policy := range []seccomp.Policy{frontPolicy(a, 1, true, true), modulePolicy(a, 1, true)} {
			for _, group := range policy.Syscalls {
				for _, c := range group.NamesWithCondtions {
					if _, ok := a.SyscallNames[c.Name]; !ok {
						t.Errorf("%s has no %s", a.Name, c.Name)
					}
				}
			}
		}
	}
	for name, number := range arch.X86_64.SyscallNames {
		if number > newestKnown {
			t.Errorf("%s (%d) has to be considered", name, number)
		}
	}
}
