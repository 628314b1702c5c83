package pinopstest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"keyd/dukpt"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/pinops"
)

// readVectors reads a file of published figures, by its path in this repository.
func readVectors[V any](b *bench, path string) (list []V) {
	b.Helper()
	folder, err := os.Getwd()
	b.must(err)
	for ; ; folder = filepath.Dir(folder) {
		if _, err := os.Stat(filepath.Join(folder, "go.mod")); err == nil {
			break
		}
		if folder == filepath.Dir(folder) {
			b.Fatal("the tests run outside the repository")
		}
	}
	text, err := os.ReadFile(filepath.Join(folder, path))
	b.must(err)
	b.must(json.Unmarshal(text, &list))
	return list
}

// vectors sends every published figure that is a PIN operation.
func (b *bench) vectors() {
	fills := newFills()
	var trials []trial
	trials = append(trials, b.publishedTDES(fills)...)
	trials = append(trials, b.publishedAES(fills)...)
	trials = append(trials, b.publishedBlocks(fills)...)
	trials = append(trials, b.publishedVerifications()...)
	trials = append(trials, b.publishedTranslations()...)
	b.run(trials)
}

// published is the translation of a published block, in which the PIN must be.
func (b *bench) published(id string, in side, pan, pin string, block []byte, fills *fills) trial {
	out := b.side(b.format())
	op := &pinops.Operation{Translate: &hsm.TranslatePIN{Incoming: in.PINKey, Outgoing: out.PINKey, PAN: pan, Block: block}}
	return trial{id, op, func() {
		if b.outcome(id, op, 0) {
			b.carries(id, out, op.Translated.Block, pan, pin, fills)
		}
	}}
}

// refused is the translation of one to format 0 that is refused.
func (b *bench) refused(id string, want fault.Reason, in, out hsm.PINKey, pan string, block []byte) trial {
	op := &pinops.Operation{Translate: &hsm.TranslatePIN{Incoming: in, Outgoing: out, PAN: pan, Block: block}}
	return trial{id, op, func() { b.outcome(id, op, want) }}
}

func (b *bench) publishedTDES(fills *fills) (trials []trial) {
	type vector struct {
		ID, Kind, BDK, KSN, PAN, PIN string
		PINKey                       string `json:"pin_key"`
		Block                        string `json:"encrypted_pin_block"`
		Format                       string `json:"pin_block_format"`
	}
	blocks := 0
	for _, v := range readVectors[vector](b, "dukpt/software/testdata/dukpt_tdes.json") {
		if v.Kind != "derivation" {
			continue
		}
		in := side{PINKey: hsm.PINKey{Key: b.Key("B0", "T", "X", v.BDK), KSN: b.KSN(v.KSN), Format: hsm.Format0}}
		if v.Block != "" && v.Format == "ISO-0" {
			blocks++
			trials = append(trials, b.published(v.ID, in, v.PAN, v.PIN, unhex(v.Block), fills))
		}
		if v.PINKey != "" {
			const pan = "4012345678909"
			block := pinKey{value: unhex(v.PINKey)}.seal(hsm.Format0, b.right(hsm.Format0, "8520"), pan)
			trials = append(trials, b.published(v.ID+" PIN key", in, pan, "8520", block, fills))
		}
	}
	if blocks < 10 {
		b.Errorf("only %d published TDES DUKPT blocks", blocks)
	}
	return trials
}

func (b *bench) publishedAES(fills *fills) (trials []trial) {
	type vector struct {
		ID, Kind, BDK, KSN, PAN, PIN, Usage string
		Working                             string `json:"working_key_type"`
		Derived                             string `json:"derived_key"`
		Block                               string `json:"encrypted_pin_block"`
	}
	types := map[string]hsm.WorkingType{"AES128": hsm.WorkingAES128, "AES192": hsm.WorkingAES192, "AES256": hsm.WorkingAES256, "2TDEA": hsm.WorkingTDES2, "3TDEA": hsm.WorkingTDES3}
	blocks, derived := 0, 0
	for _, v := range readVectors[vector](b, "dukpt/software/testdata/dukpt_aes.json") {
		if v.Usage != "PIN" || v.Kind != "iso4_pin_block" && v.Kind != "derived_key" {
			continue
		}
		ksn, err := dukpt.ParseKSN(unhex(v.KSN))
		if counter, _ := strconv.ParseUint(v.KSN[16:], 16, 32); err != nil && bits.OnesCount64(counter) > 16 {
			continue // the supplement prints keys for counters that no terminal may use
		}
		b.must(err)
		in := side{PINKey: hsm.PINKey{Key: b.Key("B0", "A", "X", v.BDK), KSN: ksn, WorkingType: types[v.Working], Format: hsm.Format4}}
		if v.Kind == "iso4_pin_block" {
			blocks++
			trials = append(trials, b.published(v.ID, in, v.PAN, v.PIN, unhex(v.Block), fills))
			continue
		}
		derived++
		key := pinKey{unhex(v.Derived), strings.HasPrefix(v.Working, "AES")}
		if !key.aes {
			in.Format = hsm.Format3
		}
		const pan = "4111111111111111"
		trials = append(trials, b.published(v.ID, in, pan, "852012", key.seal(in.Format, b.right(in.Format, "852012"), pan), fills))
	}
	if blocks < 6 || derived < 60 {
		b.Errorf("%d published blocks and %d derived PIN keys", blocks, derived)
	}
	return trials
}

var isoFormats = map[string]hsm.Format{"ISO-0": 0, "ISO-1": 1, "ISO-2": 2, "ISO-3": 3, "ISO-4": 4}

// publishedBlocks are PIN blocks of all kinds: enciphered ones as they are, clear ones under a static
// key.
func (b *bench) publishedBlocks(fills *fills) (trials []trial) {
	type vector struct {
		ID, Format, PIN, PAN, Reason, Key string
		PAN12                             string `json:"pan_12"`
		Clear                             string `json:"clear_block"`
		PINField                          string `json:"pin_field"`
		Block                             string `json:"encrypted_block"`
		Valid                             bool
	}
	for _, v := range readVectors[vector](b, "pinblock/testdata/pinblock.json") {
		pan := v.PAN
		if v.PAN12 != "" {
			pan = v.PAN12 + "0"
		}
		if pan == "" {
			pan = "5432101234567890"
		}
		format, iso := isoFormats[v.Format]
		algorithm := "T"
		if format == hsm.Format4 {
			algorithm = "A"
		}
		in := b.static(algorithm, format)
		var block []byte
		switch {
		case v.Block != "" && len(v.Key) >= 32:
			in.Key, block = b.Key("P0", algorithm, "B", v.Key), unhex(v.Block)
		case v.PINField != "":
			block = in.seal(format, unhex(v.PINField), pan)
		case len(v.Clear) == 16:
			block = make([]byte, 8)
			in.cipher().Encrypt(block, unhex(v.Clear))
		default:
			continue // a PAN field alone, or a block of a size that the module's door refuses
		}
		zone := b.static("T", hsm.Format0).PINKey
		switch {
		case v.Valid && iso && format != hsm.Format2:
			trials = append(trials, b.published(v.ID, in, pan, v.PIN, block, fills))
		case v.Format == "ISO-2":
			trials = append(trials, b.refused(v.ID, fault.TranslationForbidden, in.PINKey, zone, pan, block))
		case strings.HasPrefix(v.Reason, "PIN not numeric"):
			trials = append(trials, b.refused(v.ID, 0, in.PINKey, zone, pan, block)) // ISO 9564-1: the host does not look at PIN digits
		default:
			trials = append(trials, b.refused(v.ID, fault.PINBlockInvalid, in.PINKey, zone, pan, block))
		}
	}
	if len(trials) < 50 {
		b.Errorf("only %d published PIN blocks", len(trials))
	}
	return trials
}

func (b *bench) publishedVerifications() (trials []trial) {
	type vector struct {
		ID, Algorithm, PVK, PAN, PIN, PVV, PVKI, Offset, Pad string
		Table                                                string `json:"decimalization_table"`
		Validation                                           string `json:"validation_data"`
	}
	for _, v := range readVectors[vector](b, "hsm/module/internal/pinverify/testdata/pin_verify.json") {
		if len(v.PVK) == 16 {
			continue // single DES, which no key is
		}
		wrong := fmt.Sprint((v.PIN[0]-'0'+1)%10) + v.PIN[1:]
		for pin, verified := range map[string]bool{v.PIN: true, wrong: false} {
			in := b.side(b.format())
			r := &hsm.VerifyPIN{Incoming: in.PINKey, PAN: v.PAN, Block: in.seal(in.Format, b.right(in.Format, pin), v.PAN)}
			if v.Algorithm == "VISA_PVV" {
				index, err := strconv.ParseUint(v.PVKI, 10, 8)
				b.must(err)
				r.Verification, r.VisaPVV = b.Key("V2", "T", "V", v.PVK), &hsm.VisaPVV{KeyIndex: uint8(index), PVV: v.PVV}
			} else {
				rule := b.rule(v.PAN, v.Validation, v.Pad)
				rule.DecimalizationTable, rule.AllowUnboundPAN = v.Table, true
				r.Verification, r.IBM3624 = b.Key("V1", "T", "V", v.PVK, func(h *hsm.Header) { h.IBM3624 = rule }), &hsm.IBM3624{Offset: v.Offset}
			}
			op, name := &pinops.Operation{Verify: r}, fmt.Sprint(v.ID, " ", verified)
			trials = append(trials, trial{name, op, func() {
				if b.outcome(name, op, 0) && op.Verified.Verified != verified {
					b.Errorf("%s: %+v", name, op.Verified)
				}
			}})
		}
	}
	if len(trials) != 2*15 {
		b.Errorf("%d published verifications", len(trials)/2)
	}
	return trials
}

// rule finds the one that makes the published validation data of the PAN.
func (b *bench) rule(pan, data, pad string) *hsm.IBM3624Rule {
	b.Helper()
	for start := range len(pan) {
		for length := min(16, len(pan)-start); length > 0; length-- {
			if pan[start:start+length]+strings.Repeat(pad, 16-length) == data {
				return &hsm.IBM3624Rule{Start: uint8(start), Length: uint8(length), Pad: pad}
			}
		}
	}
	b.Fatalf("no rule makes %s of %s", data, pan)
	return nil
}

func (b *bench) publishedTranslations() (trials []trial) {
	type end struct{ Key, BDK, KSN, Format, Block string }
	type vector struct {
		ID, PAN, Policy    string
		PAN12              string `json:"pan_12"`
		Incoming, Outgoing end
	}
	blocks := 0
	for _, v := range readVectors[vector](b, "e2e/testdata/translate.json") {
		pan := v.PAN
		if v.PAN12 != "" {
			pan = v.PAN12 + "0"
		}
		key := func(e end) hsm.PINKey {
			if e.BDK != "" {
				return hsm.PINKey{Key: b.Key("B0", "T", "X", e.BDK), KSN: b.KSN(e.KSN), Format: isoFormats[e.Format]}
			}
			return hsm.PINKey{Key: b.Key("P0", "T", "B", e.Key), Format: isoFormats[e.Format]}
		}
		switch {
		case v.Incoming.Format != "ISO-0" || !strings.HasPrefix(v.Outgoing.Format, "ISO-") || len(v.Incoming.Key) == 16:
			continue // a format that cannot be named here, or single DES
		case v.Policy == "must_refuse":
			trials = append(trials, b.refused(v.ID, fault.TranslationForbidden, key(v.Incoming), key(v.Outgoing), pan, unhex(v.Incoming.Block)))
		default:
			blocks++
			op := &pinops.Operation{Translate: &hsm.TranslatePIN{Incoming: key(v.Incoming), Outgoing: key(v.Outgoing), PAN: pan, Block: unhex(v.Incoming.Block)}}
			want := unhex(v.Outgoing.Block)
			trials = append(trials, trial{v.ID, op, func() {
				if b.outcome(v.ID, op, 0) && !bytes.Equal(op.Translated.Block, want) {
					b.Errorf("%s: %X, want %X", v.ID, op.Translated.Block, want)
				}
			}})
		}
	}
	if blocks < 8 {
		b.Errorf("only %d published translations", blocks)
	}
	return trials
}
