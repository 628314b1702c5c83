package pinopstest

import (
	"bytes"

	"keyd/hsm"
	"keyd/hsm/module/internal/pinops"
	"keyd/hsm/module/internal/sealedtest"
)

// Sample is one operation of each kind that can stay in a token, with a PIN of four digits.
type Sample struct {
	Name      string
	Operation func() *pinops.Operation // a new one of the same
	Random    bool                     // its token calls are not always as many
}

// Samples are operations under keys that it seals for the bench's token.
func Samples(keys *sealedtest.Bench) (list []Sample) {
	b := newBench(keys, keys, 1)
	const pan, pin = "4111111111111111", "1234"
	zone := map[hsm.Format]side{hsm.Format0: b.static("T", hsm.Format0), hsm.Format3: b.static("T", hsm.Format3), hsm.Format4: b.static("A", hsm.Format4)}
	dukpt := b.dukptAES(hsm.Format4)
	v2 := b.one("V2", "T", 16)
	translation := func(name string, in, out side) {
		block := in.seal(in.Format, b.right(in.Format, pin), pan)
		list = append(list, Sample{Name: name, Operation: func() *pinops.Operation {
			return &pinops.Operation{Translate: &hsm.TranslatePIN{Incoming: in.PINKey, Outgoing: out.PINKey, PAN: pan, Block: bytes.Clone(block)}}
		}})
	}
	verification := func(name string, in side) {
		block := in.seal(in.Format, b.right(in.Format, pin), pan)
		list = append(list, Sample{Name: name, Operation: func() *pinops.Operation {
			return &pinops.Operation{Verify: &hsm.VerifyPIN{Incoming: in.PINKey, Verification: v2.Key, PAN: pan, Block: bytes.Clone(block), VisaPVV: &hsm.VisaPVV{KeyIndex: 1, PVV: "0000"}}}
		}})
	}
	translation("translation 0 to 0", zone[hsm.Format0], zone[hsm.Format0])
	translation("translation 0 to 3", zone[hsm.Format0], zone[hsm.Format3])
	translation("translation 0 to 4", zone[hsm.Format0], zone[hsm.Format4])
	translation("translation 3 to 0", zone[hsm.Format3], zone[hsm.Format0])
	translation("translation 3 to 3", zone[hsm.Format3], zone[hsm.Format3])
	translation("translation 3 to 4", zone[hsm.Format3], zone[hsm.Format4])
	translation("translation 4 to 0", zone[hsm.Format4], zone[hsm.Format0])
	translation("translation 4 to 3", zone[hsm.Format4], zone[hsm.Format3])
	translation("translation 4 to 4", zone[hsm.Format4], zone[hsm.Format4])
	translation("translation, AES DUKPT 4 to 0", dukpt, zone[hsm.Format0])
	translation("translation, AES DUKPT 4 to 4", dukpt, zone[hsm.Format4])
	verification("verification, format 0", zone[hsm.Format0])
	verification("verification, format 3", zone[hsm.Format3])
	verification("verification, format 4", zone[hsm.Format4])
	verification("verification, AES DUKPT 4", dukpt)
	list = append(list, Sample{Name: "generation, format 0", Random: true, Operation: func() *pinops.Operation {
		return &pinops.Operation{Generate: &hsm.GeneratePIN{Outgoing: zone[hsm.Format0].PINKey, Generation: v2.Key, PAN: pan, Length: 4, VisaPVV: &hsm.VisaPVV{KeyIndex: 1}}}
	}})
	return list
}
