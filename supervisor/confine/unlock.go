package confine

import (
	"slices"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
)

// unlockAllowed is what an unlock that talks to Vault may call beyond what a front may: it
// makes files for others and links to them.
var unlockAllowed = []string{"chmod", "fchmodat", "symlink", "symlinkat"}

func unlockPolicy(native *arch.Info, pid int, network bool) seccomp.Policy {
	policy := frontPolicy(native, pid, network, false)
	last := len(policy.Syscalls) - 1
	policy.Syscalls[last].Names = slices.Concat(policy.Syscalls[last].Names, present(native, unlockAllowed))
	return policy
}
