package confine

import (
	"slices"

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
	"close", "close_range", "dup", "dup2", "dup3", "pipe", "pipe2", "eventfd2", "read", "readv", "pread64", "preadv", "write", "writev", "pwrite64", "pwritev", "lseek",
	"epoll_create", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_wait", "poll", "ppoll", "select", "pselect6", "sendfile", "splice", "copy_file_range",

	// Sockets that it has been given.
	"accept", "accept4", "getpeername", "getsockname", "getsockopt", "shutdown",

	// Files; Landlock says which.
	"open", "openat", "access", "faccessat", "faccessat2", "stat", "lstat", "fstat", "newfstatat", "statx", "statfs", "fstatfs",
	"getcwd", "getdents64", "readlink", "readlinkat", "mkdir", "mkdirat", "rmdir", "unlink", "unlinkat", "rename", "renameat", "renameat2",
	"fsync", "fdatasync", "ftruncate", "fallocate", "fadvise64", "flock", "fchmod", "fchown", "utimensat", "utimes",
}

// frontFcntl is what a front may ask of fcntl besides F_SETFL. F_SETOWN and F_SETSIG
// are not among it: with them a descriptor sends signals to any process of the same user.
var frontFcntl = []uint64{
	unix.F_GETFD, unix.F_SETFD, unix.F_GETFL, unix.F_DUPFD, unix.F_DUPFD_CLOEXEC,
	unix.F_GETLK, unix.F_SETLK, unix.F_SETLKW, unix.F_OFD_GETLK, unix.F_OFD_SETLK, unix.F_OFD_SETLKW,
}

// frontOptions are the socket options that Go and gRPC set on connections, by level.
// Filters are not among them: one that is attached to the shared listening socket, and
// locked, would starve every later front.
var frontOptions = map[uint64][]uint64{
	unix.SOL_SOCKET:  {unix.SO_KEEPALIVE, unix.SO_LINGER, unix.SO_REUSEADDR, unix.SO_BROADCAST},
	unix.IPPROTO_TCP: {unix.TCP_NODELAY, unix.TCP_KEEPIDLE, unix.TCP_KEEPINTVL, unix.TCP_KEEPCNT, unix.TCP_USER_TIMEOUT},
}

// frontMissing is refused as if the kernel did not have it. C libraries then take the
// older call, whose arguments a filter can see.
var frontMissing = []string{"clone3", "openat2", "epoll_pwait2"}

// frontProfiled is what a CPU profile takes. A timer's signal goes to the process that sets
// it, or to one of its threads, and to no other.
var frontProfiled = []string{"timer_create", "timer_settime", "timer_delete", "setitimer"}

func frontPolicy(native *arch.Info, pid int, network, profiled bool) seccomp.Policy {
	conditional := []seccomp.NameWithConditions{
		when("mmap", compare(2, seccomp.BitsNotSet, unix.PROT_EXEC)),
		when("mprotect", compare(2, seccomp.BitsNotSet, unix.PROT_EXEC)),
		when("clone", compare(0, seccomp.BitsSet, unix.CLONE_THREAD)), // threads, no processes
		when("tgkill", compare(0, seccomp.Equal, uint64(pid))),        // Go's pre-emption
		// Urgent data sends signals; a fast open connects without asking Landlock.
		when("sendto", compare(3, seccomp.BitsNotSet, unix.MSG_OOB|unix.MSG_FASTOPEN)),
		when("sendmsg", compare(2, seccomp.BitsNotSet, unix.MSG_OOB|unix.MSG_FASTOPEN)),
		when("recvfrom", compare(3, seccomp.BitsNotSet, unix.MSG_OOB)),
		when("recvmsg", compare(2, seccomp.BitsNotSet, unix.MSG_OOB)),
		when("prctl", compare(0, seccomp.Equal, unix.PR_SET_NAME)),
		when("prctl", compare(0, seccomp.Equal, unix.PR_SET_VMA)),                           // names of mappings
		when("prlimit64", compare(0, seccomp.Equal, 0), compare(2, seccomp.Equal, 0)),       // reading its own
		when("prlimit64", compare(0, seccomp.Equal, 0), compare(1, seccomp.Equal, rlimits)), // Go raises the soft limit
	}
	conditional = append(conditional, when("fcntl", compare(1, seccomp.Equal, unix.F_SETFL), compare(2, seccomp.BitsNotSet, unix.O_ASYNC)))
	for _, command := range frontFcntl {
		conditional = append(conditional, when("fcntl", compare(1, seccomp.Equal, command)))
	}
	for level, options := range frontOptions {
		for _, option := range options {
			conditional = append(conditional, when("setsockopt", compare(1, seccomp.Equal, level), compare(2, seccomp.Equal, option)))
		}
	}
	names := frontAllowed
	if profiled {
		names = slices.Concat(names, frontProfiled)
	}
	if network {
		names = append([]string{"connect"}, names...)
		for _, family := range []uint64{unix.AF_INET, unix.AF_INET6} {
			// TCP alone, on whose ports Landlock has a rule: of the four bits of the type only
			// that of SOCK_STREAM, and no Multipath TCP, which is protocol 262.
			conditional = append(conditional, when("socket", compare(0, seccomp.Equal, family),
				compare(1, seccomp.BitsSet, unix.SOCK_STREAM), compare(1, seccomp.BitsNotSet, 0xf&^unix.SOCK_STREAM),
				compare(2, seccomp.LessOrEqual, 1<<8-1)))
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
