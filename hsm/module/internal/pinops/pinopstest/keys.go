package pinopstest

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"testing"

	"keyd/dukpt"
	"keyd/dukpt/software"
	"keyd/hsm"
	"keyd/hsm/module/internal/pinops"
	"keyd/hsm/module/internal/sealedtest"
)

// bench is an engine on a fresh token, with keys of which the values are known.
type bench struct {
	*sealedtest.Bench
	engine *pinops.Engine
	random *rand.Rand
	pool   map[string][]known  // by usage, algorithm and size: "P0T16"
	ksns   map[int][]dukpt.KSN // by size

	composes bool // the token keeps PINs
}

// known is a sealed key and its value.
type known struct {
	hsm.Key
	value []byte
}

// side is a key in its role, and the value by which it enciphers PIN blocks.
type side struct {
	hsm.PINKey
	pinKey
}

// perKind is how many keys of a kind there are, so that some operations of a batch have one in common.
const perKind = 2

func newBench(t testing.TB, b *sealedtest.Bench, seed uint64) *bench {
	t.Helper()
	s := &bench{Bench: b, engine: pinops.NewEngine(b.Keys, nil), random: rand.New(rand.NewPCG(seed, 0)), pool: map[string][]known{}, ksns: map[int][]dukpt.KSN{}}
	for _, kind := range []struct {
		usage, algorithm, mode string
		sizes                  []int
	}{
		{"P0", "T", "B", []int{16, 24}}, {"P0", "A", "B", []int{16, 24, 32}},
		{"B0", "T", "X", []int{16}}, {"B0", "A", "X", []int{16, 24, 32}}, {"V2", "T", "C", []int{16, 24}},
	} {
		for _, size := range kind.sizes {
			for range perKind {
				value := s.bytes(size)
				name := fmt.Sprint(kind.usage, kind.algorithm, size)
				s.pool[name] = append(s.pool[name], known{b.Key(kind.usage, kind.algorithm, kind.mode, hex.EncodeToString(value)), value})
			}
		}
	}
	return s
}

func (b *bench) bytes(n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(b.random.Uint32())
	}
	return out
}

func (b *bench) digits(n int) string {
	out := make([]byte, n)
	for i := range out {
		out[i] = '0' + byte(b.random.IntN(10))
	}
	return string(out)
}

func (b *bench) one(usage, algorithm string, sizes ...int) known {
	list := b.pool[fmt.Sprint(usage, algorithm, sizes[b.random.IntN(len(sizes))])]
	return list[b.random.IntN(len(list))]
}

// format is one of those in which PINs are verified.
func (b *bench) format() hsm.Format {
	return []hsm.Format{hsm.Format0, hsm.Format3, hsm.Format4}[b.random.IntN(3)]
}

// side is a key of any kind that carries the format.
func (b *bench) side(f hsm.Format) side {
	switch kind := b.random.IntN(5); {
	case kind < 2 && f == hsm.Format4:
		return b.static("A", f)
	case kind < 2:
		return b.static("T", f)
	case kind == 2 && f != hsm.Format4:
		return b.dukptTDES(f)
	}
	return b.dukptAES(f)
}

func (b *bench) static(algorithm string, f hsm.Format) side {
	sizes := []int{16, 24, 32}
	if algorithm == "T" {
		sizes = sizes[:2]
	}
	k := b.one("P0", algorithm, sizes...)
	return side{hsm.PINKey{Key: k.Key, Format: f}, pinKey{k.value, algorithm == "A"}}
}

// ksn is any key serial number of a scheme: one of few, mostly, of which the token has the derivation
// keys, or a new one.
func (b *bench) ksn(size int) dukpt.KSN {
	if few := b.ksns[size]; len(few) == fewKSNs && b.random.IntN(16) != 0 {
		return few[b.random.IntN(len(few))]
	}
	for {
		if k, err := dukpt.ParseKSN(b.bytes(size)); err == nil {
			if len(b.ksns[size]) < fewKSNs {
				b.ksns[size] = append(b.ksns[size], k)
			}
			return k
		}
	}
}

// fewKSNs is how many serial numbers of a size come again.
const fewKSNs = 6

func (b *bench) dukptTDES(f hsm.Format) side {
	k, ksn := b.one("B0", "T", 16), b.ksn(10)
	ik, transaction, key := make([]byte, 16), make([]byte, 16), make([]byte, 16)
	b.must(software.TDESInitialKey(ik, k.value, ksn))
	b.must(software.TDESTransactionKey(transaction, ik, ksn))
	b.must(software.TDESWorkingKey(key, transaction, dukpt.VariantPIN))
	return side{hsm.PINKey{Key: k.Key, KSN: ksn, Format: f}, pinKey{key, false}}
}

// dukptAES has a working key of AES for format 4, of TDES for the others.
func (b *bench) dukptAES(f hsm.Format) side {
	size := []int{16, 24, 32}[b.random.IntN(3)]
	k, ksn := b.one("B0", "A", size), b.ksn(12)
	working := []hsm.WorkingType{hsm.WorkingTDES2, hsm.WorkingTDES3}
	if f == hsm.Format4 {
		working = []hsm.WorkingType{hsm.WorkingDefault, hsm.WorkingAES128, hsm.WorkingAES192, hsm.WorkingAES256}[:size/8]
	}
	chosen := working[b.random.IntN(len(working))]
	kind := map[hsm.WorkingType]dukpt.KeyType{
		hsm.WorkingDefault: dukpt.AES128, hsm.WorkingTDES2: dukpt.TDES2Key, hsm.WorkingTDES3: dukpt.TDES3Key,
		hsm.WorkingAES128: dukpt.AES128, hsm.WorkingAES192: dukpt.AES192, hsm.WorkingAES256: dukpt.AES256,
	}[chosen]
	bdk, err := dukpt.AESKeyType(size)
	b.must(err)
	path, err := dukpt.NewPath(ksn, bdk, dukpt.UsagePIN, kind)
	b.must(err)
	key := make([]byte, kind.Size())
	b.must(software.AESDerive(key, k.value, path))
	return side{hsm.PINKey{Key: k.Key, KSN: ksn, WorkingType: chosen, Format: f}, pinKey{key, f == hsm.Format4}}
}

func (b *bench) must(err error) {
	if err != nil {
		b.Helper()
		b.Fatal(err)
	}
}
