package pinops

import (
	"keyd/fault"
	"keyd/hsm"
)

// count has every try counted before anything is compared or enciphered. From format 1 to
// format 1 no account is known. A generation counts like a verification: who could have any
// number of PINs and their values for an account, and read the blocks, would know which PIN
// a value belongs to. A change is one try, that of the current PIN.
func (b *batch) count() {
	for l := range b.going {
		if l.counted {
			continue
		}
		if l.counted = b.allowed(l); !l.counted {
			b.fail(l, fault.New(fault.RateLimited, ""))
		}
	}
}

func (b *batch) allowed(l *lane) bool {
	switch {
	case l.task == makesNew, l.task == opens:
		return true
	case l.task == translates && l.in.Format == hsm.Format1 && l.out.Format == hsm.Format1:
		return true
	case l.task == translates:
		return b.tries.Translation(l.pan)
	case l.method.visa != nil:
		return b.tries.Verification(l.pvkKey.Header, l.pan, nil)
	}
	return b.tries.Verification(l.pvkKey.Header, l.pan, &l.compare.in)
}
