package confine

import (
	"slices"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

// moduleForbidden is what a module may not call, whatever its PKCS#11 library is
// like. The list names what reaches other processes, the kernel or new programs; what
// a library calls besides differs too much for a list of what is allowed.
var moduleForbidden = []string{
	// Other programs and processes.
	"execve", "execveat", "fork", "vfork", "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease", "kcmp",
	"pidfd_open", "pidfd_getfd", "pidfd_send_signal", "tkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo",

	// The kernel.
	"bpf", "perf_event_open", "userfaultfd", "kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "create_module", "reboot", "syslog", "acct",
	"add_key", "request_key", "keyctl", "io_uring_setup", "io_uring_enter", "io_uring_register", "ioperm", "iopl", "modify_ldt", "personality", "lookup_dcookie",
	"settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "sethostname", "setdomainname", "swapon", "swapoff", "quotactl", "quotactl_fd", "fanotify_init",

	// Mounts, namespaces, files by handle.
	"mount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree", "open_tree_attr", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr",
	"setns", "unshare", "open_by_handle_at", "name_to_handle_at", "mknod", "mknodat",

	// What the earlier steps have settled.
	"munlockall", "capset", "seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self",

	// Serving.
	"bind", "listen", "accept", "accept4",

	// Memory that would be shared or executed in unusual ways.
	"memfd_create", "vmsplice", "remap_file_pages", "move_pages", "migrate_pages",
}

// moduleNetwork is forbidden too, unless the token is a network HSM.
var moduleNetwork = []string{"socket", "socketpair", "connect"}

// moduleMissing is refused as if the kernel did not have it; see frontMissing.
var moduleMissing = []string{"clone3"}

func modulePolicy(native *arch.Info, pid int, network bool) seccomp.Policy {
	writableCode := []seccomp.Condition{compare(2, seccomp.BitsSet, unix.PROT_WRITE), compare(2, seccomp.BitsSet, unix.PROT_EXEC)}
	conditional := []seccomp.NameWithConditions{
		when("clone", compare(0, seccomp.BitsNotSet, unix.CLONE_THREAD)), // threads, no processes
		when("kill", compare(0, seccomp.NotEqual, uint64(pid))),
		when("tgkill", compare(0, seccomp.NotEqual, uint64(pid))),
		when("prlimit64", compare(0, seccomp.NotEqual, 0), compare(0, seccomp.NotEqual, uint64(pid))),
		when("prctl", beyondInt(0)),
		when("prctl", compare(0, seccomp.Equal, unix.PR_SET_DUMPABLE)),
		when("prctl", compare(0, seccomp.Equal, unix.PR_SET_PDEATHSIG)),
		when("prctl", compare(0, seccomp.Equal, unix.PR_SET_PTRACER)),
		when("prctl", compare(0, seccomp.Equal, unix.PR_SET_MM)),
		when("mmap", writableCode...),
		when("mprotect", writableCode...),
		when("pkey_mprotect", writableCode...),
	}
	names := moduleForbidden
	if network {
		conditional = append(conditional,
			when("socket", compare(0, seccomp.NotEqual, unix.AF_INET), compare(0, seccomp.NotEqual, unix.AF_INET6)),
			when("socket", beyondInt(2)),
			when("socket", compare(2, seccomp.Equal, unix.IPPROTO_MPTCP))) // Landlock does not know it
	} else {
		names = slices.Concat(names, moduleNetwork)
	}
	return seccomp.Policy{
		DefaultAction: seccomp.ActionAllow,
		Syscalls: []seccomp.SyscallGroup{
			{Action: refuseMissing, Names: present(native, moduleMissing)},
			{Action: seccomp.ActionErrno, Names: present(native, names), NamesWithCondtions: conditional},
		},
	}
}

// beyondInt meets an argument that is an int to the kernel, which ignores the upper
// half, but that differs from every int to a filter, which does not.
func beyondInt(argument uint32) seccomp.Condition {
	return compare(argument, seccomp.GreaterThan, 1<<32-1)
}
