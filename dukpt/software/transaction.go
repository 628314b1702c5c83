package software

import (
	"fmt"
	"log/slog"

	"keyd/dukpt"
)

// Transaction is one DUKPT transaction of a terminal: its KSN and its derivation key, from which the working
// keys for request and response come. Destroy it when the response has been checked. It is a secret; its
// methods that print or marshal redact it. Terminal side only.
type Transaction struct {
	ksn        dukpt.KSN
	key        dukpt.KeyType
	derivation register
}

// KSN returns the KSN that goes out with the transaction.
func (x *Transaction) KSN() dukpt.KSN { return x.ksn }

// Key derives a working key into dst, of working.Size() bytes. For TDES, working is TDES2Key and the usage
// one that has a [dukpt.Variant] (X9.24-1:2009 A.4.1); else [dukpt.ErrKeyType] or [dukpt.ErrUsage]. For AES,
// [dukpt.CheckWorkingKey] tells what there is, and its errors are returned. [ErrOutputSize] for another
// length of dst, [ErrTerminalDestroyed] after Destroy.
func (x *Transaction) Key(dst []byte, usage dukpt.Usage, working dukpt.KeyType) error {
	if x.key == 0 {
		return ErrTerminalDestroyed
	}
	if x.ksn.Scheme() == dukpt.TDES {
		if working != dukpt.TDES2Key {
			return dukpt.ErrKeyType
		}
		v, ok := usage.Variant()
		if !ok {
			return dukpt.ErrUsage
		}
		return TDESWorkingKey(dst, x.derivation[:TDESKeySize], v)
	}
	step, err := dukpt.WorkingKeyStep(x.ksn, x.key, usage, working)
	if err != nil {
		return err
	}
	return AESDeriveStep(dst, x.derivation[:x.key.Size()], step)
}

// Destroy overwrites the key. The KSN stays.
func (x *Transaction) Destroy() {
	clear(x.derivation[:])
	x.key = 0
}

// String returns a constant, never a key.
func (Transaction) String() string { return redacted }

// GoString returns a constant, never a key.
func (Transaction) GoString() string { return redacted }

// Format writes a constant for every verb, never a key.
func (Transaction) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue returns a constant, never a key.
func (Transaction) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON returns a constant, never a key.
func (Transaction) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
