package confine

import (
	"github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

// frontAllowed is what a front may call without conditions: what Go's runtime, a
// server on sockets it has been given, and SQLite in WAL mode need.
var frontAllowed = []string{
	// Memory; the calls that could make it executable are below.
	"brk", "madvise", "mincore", "mremap", "munmap", "msync",

	// Threads, time, signals to itself.
	"exit", "exit_group", "futex", "get_robust_list", "set_robust_list", "set_tid_address", "rseq", "restart_syscall",
	"sched_getaffinity", "sched_yield", "getcpu", "membarrier",
	"clock_getres", "clock_gettime", "clock_nanosleep", "nanosleep", "gettimeofday", "time",
	"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack",
	"getpid", "getppid", "gettid", "getuid", "geteuid", "getgid", "getegid", "getgroups", "getrlimit", "getrusage", "sysinfo", "uname", "umask", "getrandom",

	// Descriptors.
	"close", "close_range", "dup", "dup2", "dup3", "fcntl", "pipe", "pipe2", "eventfd2", "read", "readv", "pread64", "preadv", "write", "writev", "pwrite64", "pwritev", "lseek",
	"epoll_create", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_wait", "poll", "ppoll", "select", "pselect6", "sendfile", "splice", "copy_file_range",

	// Sockets that it has been given.
	"accept", "accept4", "getpeername", "getsockname", "getsockopt", "setsockopt", "recvfrom", "recvmsg", "sendto", "sendmsg", "shutdown",

	// Files; Landlock says which.
	"open", "openat", "access", "faccessat", "faccessat2", "stat", "lstat", "fstat", "newfstatat", "statx", "statfs", "fstatfs",
	"getcwd", "getdents64", "readlink", "readlinkat", "mkdir", "mkdirat", "rmdir", "unlink", "unlinkat", "rename", "renameat", "renameat2",
	"fsync", "fdatasync", "ftruncate", "fallocate", "fadvise64", "flock", "fchmod", "fchown", "utimensat", "utimes",
}

// frontMissing is refused as if the kernel did not have it. C libraries then take the
// older call, whose arguments a filter can see.
var frontMissing = []string{"clone3", "openat2", "epoll_pwait2"}

func frontPolicy(native *arch.Info, pid int, network bool) seccomp.Policy {
	conditional := []seccomp.NameWithConditions{
		when("mmap", compare(2, seccomp.BitsNotSet, unix.PROT_EXEC)),
		when("mprotect", compare(2, seccomp.BitsNotSet, unix.PROT_EXEC)),
		when("clone", compare(0, seccomp.BitsSet, unix.CLONE_THREAD)), // threads, no processes
		when("tgkill", compare(0, seccomp.Equal, uint64(pid))),        // Go's pre-emption
		when("prctl", compare(0, seccomp.Equal, unix.PR_SET_NAME)),
		when("prctl", compare(0, seccomp.Equal, unix.PR_SET_VMA)),                           // names of mappings
		when("prlimit64", compare(0, seccomp.Equal, 0), compare(2, seccomp.Equal, 0)),       // reading its own
		when("prlimit64", compare(0, seccomp.Equal, 0), compare(1, seccomp.Equal, rlimits)), // Go raises the soft limit
	}
	names := frontAllowed
	if network {
		names = append([]string{"connect"}, names...)
		for _, family := range []uint64{unix.AF_INET, unix.AF_INET6} {
			// Landlock does not know Multipath TCP, which is protocol 262.
			conditional = append(conditional, when("socket", compare(0, seccomp.Equal, family), compare(2, seccomp.LessOrEqual, 1<<8-1)))
		}
	}
	return seccomp.Policy{
		DefaultAction: seccomp.ActionErrno, // EPERM
		Syscalls: []seccomp.SyscallGroup{
			{Action: refuseMissing, Names: present(native, frontMissing)},
			{Action: seccomp.ActionAllow, Names: present(native, names), NamesWithCondtions: conditional},
		},
	}
}

// rlimits is the one limit that a front sets, to its own hard limit.
const rlimits = unix.RLIMIT_NOFILE
