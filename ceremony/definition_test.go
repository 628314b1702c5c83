package ceremony_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"keyd/ceremony"
	"keyd/hsm"
)

// Every kind has its fields, and no others.
func TestEachKindHasItsFields(t *testing.T) {
	all := definitions()
	fields := map[string]func(*ceremony.Definition){
		"key": func(d *ceremony.Definition) { d.Key = keySpec() }, "components": func(d *ceremony.Definition) { d.Components = 2 },
		"check_value": func(d *ceremony.Definition) { d.CheckValue = "0A1B2C" }, "overlap": func(d *ceremony.Definition) { d.Overlap = 60 },
		"block": func(d *ceremony.Definition) { d.Block = "D" }, "under": func(d *ceremony.Definition) { d.Under = &ceremony.KeyRef{Name: "k", Version: 1} },
		"target":       func(d *ceremony.Definition) { d.Target = &ceremony.KeyRef{Name: "k", Version: 1} },
		"export":       func(d *ceremony.Definition) { d.Export = &ceremony.BlockForm{Version: "D", Exportability: "N"} },
		"wait":         func(d *ceremony.Definition) { d.Wait = ceremony.MinWait },
		"allow_weaker": func(d *ceremony.Definition) { d.AllowWeaker = true }, "object": func(d *ceremony.Definition) { d.Object = "o" },
		"roster":  func(d *ceremony.Definition) { d.Roster = theCast().rosterCopy() },
		"masters": func(d *ceremony.Definition) { d.MasterKeys = &ceremony.MasterSpec{Holders: []string{"alice", "bob"}} },
	}
	belongs := map[ceremony.Kind]string{
		ceremony.Init: "roster masters check_value", ceremony.Load: "key components check_value overlap", ceremony.Create: "key overlap",
		ceremony.Import: "key block under check_value overlap allow_weaker", ceremony.Export: "target under export allow_weaker",
		ceremony.Stop: "target", ceremony.Start: "target", ceremony.Delete: "target wait", ceremony.Restore: "target",
		ceremony.Change: "roster", ceremony.Masters: "masters", ceremony.Retire: "", ceremony.Attach: "key object check_value overlap",
	}
	if len(belongs) != len(all) {
		t.Fatal("a kind is missing")
	}
	for kind, d := range all {
		if err := d.Validate(); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		for field, set := range fields {
			if strings.Contains(" "+belongs[kind]+" ", " "+field+" ") {
				continue
			}
			other := *definitions()[kind]
			set(&other)
			if err := other.Validate(); !errors.Is(err, ceremony.ErrDefinition) || !strings.Contains(err.Error(), field+" does not belong") {
				t.Errorf("%s with %s: %v", kind, field, err)
			}
		}
	}
	for kind, lacking := range map[ceremony.Kind][]func(*ceremony.Definition){
		ceremony.Init: {func(d *ceremony.Definition) { d.Roster = nil }, func(d *ceremony.Definition) { d.MasterKeys = nil }},
		ceremony.Load: {func(d *ceremony.Definition) { d.Key = nil }, func(d *ceremony.Definition) { d.Components = 0 }}, ceremony.Create: {func(d *ceremony.Definition) { d.Key = nil }},
		ceremony.Import: {func(d *ceremony.Definition) { d.Key = nil }, func(d *ceremony.Definition) { d.Block = "" }, func(d *ceremony.Definition) { d.Under = nil }},
		ceremony.Export: {func(d *ceremony.Definition) { d.Target = nil }, func(d *ceremony.Definition) { d.Under = nil }, func(d *ceremony.Definition) { d.Export = nil }},
		ceremony.Stop:   {func(d *ceremony.Definition) { d.Target = nil }}, ceremony.Start: {func(d *ceremony.Definition) { d.Target = nil }}, ceremony.Restore: {func(d *ceremony.Definition) { d.Target = nil }},
		ceremony.Delete: {func(d *ceremony.Definition) { d.Target = nil }, func(d *ceremony.Definition) { d.Wait = 0 }}, ceremony.Change: {func(d *ceremony.Definition) { d.Roster = nil }},
		ceremony.Masters: {func(d *ceremony.Definition) { d.MasterKeys = nil }}, ceremony.Attach: {func(d *ceremony.Definition) { d.Key = nil }, func(d *ceremony.Definition) { d.Object = "" }},
	} {
		for i, lack := range lacking {
			d := definitions()[kind]
			lack(d)
			if err := d.Validate(); !errors.Is(err, ceremony.ErrDefinition) || !strings.Contains(err.Error(), "needs") {
				t.Errorf("%s without its field %d: %v", kind, i, err)
			}
		}
	}
}

// Each rule of a definition, deny by default.
func TestDefinitionRules(t *testing.T) {
	type definition = ceremony.Definition
	for _, c := range []struct {
		name   string
		kind   ceremony.Kind
		change func(*definition)
		ok     bool
	}{
		{"no kind", "", func(*definition) {}, false},
		{"an unknown kind", "steal", func(*definition) {}, false},
		{"a kind in capitals", "LOAD", func(*definition) {}, false},
		{"the shortest time", ceremony.Load, func(d *definition) { d.ValidFor = 60 }, true},
		{"too short", ceremony.Load, func(d *definition) { d.ValidFor = 59 }, false},
		{"no time", ceremony.Load, func(d *definition) { d.ValidFor = 0 }, false},
		{"a time that is over", ceremony.Load, func(d *definition) { d.ValidFor = -3600 }, false},
		{"the longest time", ceremony.Load, func(d *definition) { d.ValidFor = ceremony.MaxValidFor }, true},
		{"too long", ceremony.Load, func(d *definition) { d.ValidFor = ceremony.MaxValidFor + 1 }, false},
		{"a stop of a terminal's key", ceremony.Stop, func(d *definition) { d.Target = &ceremony.KeyRef{Name: "terminal:t-1:pin", Version: 1} }, false},
		{"an export of a terminal's key", ceremony.Export, func(d *definition) { d.Target = &ceremony.KeyRef{Name: "terminal:t-1:pin", Version: 1} }, false},
		{"an export under a terminal's key", ceremony.Export, func(d *definition) { d.Under = &ceremony.KeyRef{Name: "terminal:t-1:master", Version: 1} }, false},
		{"an import under a terminal's key", ceremony.Import, func(d *definition) { d.Under = &ceremony.KeyRef{Name: "terminal:t-1:master", Version: 1} }, false},
		{"a long reason", ceremony.Load, func(d *definition) { d.Reason = strings.Repeat("r", 256) }, true},
		{"too long a reason", ceremony.Load, func(d *definition) { d.Reason = strings.Repeat("r", 257) }, false},
		{"a reason with a new line", ceremony.Load, func(d *definition) { d.Reason = "a\nb" }, false},
		{"a reason that is no ASCII", ceremony.Load, func(d *definition) { d.Reason = "größer" }, false},
		{"more approvals", ceremony.Load, func(d *definition) { d.Approvals = ceremony.MaxOfficers }, true},
		{"too many approvals", ceremony.Load, func(d *definition) { d.Approvals = ceremony.MaxOfficers + 1 }, false},
		{"fewer approvals than none", ceremony.Load, func(d *definition) { d.Approvals = -1 }, false},
		{"one component", ceremony.Load, func(d *definition) { d.Components = 1 }, false},
		{"nine components", ceremony.Load, func(d *definition) { d.Components = 9 }, true},
		{"ten components", ceremony.Load, func(d *definition) { d.Components = 10 }, false},
		{"components below zero", ceremony.Load, func(d *definition) { d.Components = -2 }, false},
		{"a check value", ceremony.Load, func(d *definition) { d.CheckValue = "0A1B2C" }, true},
		{"a check value in small letters", ceremony.Load, func(d *definition) { d.CheckValue = "0a1b2c" }, false},
		{"a short check value", ceremony.Load, func(d *definition) { d.CheckValue = "0A1B" }, false},
		{"an overlap of a first version", ceremony.Load, func(d *definition) { d.Overlap = 60 }, false},
		{"an overlap", ceremony.Load, func(d *definition) { d.Key.Version, d.Overlap = 2, ceremony.MaxOverlap }, true},
		{"too long an overlap", ceremony.Load, func(d *definition) { d.Key.Version, d.Overlap = 2, ceremony.MaxOverlap+1 }, false},
		{"an overlap that is over", ceremony.Load, func(d *definition) { d.Key.Version, d.Overlap = 2, -1 }, false},
		{"a key that is none", ceremony.Create, func(d *definition) { d.Key.Usage = "P9" }, false},
		{"the longest wait", ceremony.Delete, func(d *definition) { d.Wait = ceremony.MaxWait }, true},
		{"too short a wait", ceremony.Delete, func(d *definition) { d.Wait = ceremony.MinWait - 1 }, false},
		{"too long a wait", ceremony.Delete, func(d *definition) { d.Wait = ceremony.MaxWait + 1 }, false},
		{"a wait that is over", ceremony.Delete, func(d *definition) { d.Wait = -1 }, false},
		{"a target without a name", ceremony.Stop, func(d *definition) { d.Target = &ceremony.KeyRef{Version: 1} }, false},
		{"a target without a version", ceremony.Stop, func(d *definition) { d.Target = &ceremony.KeyRef{Name: "k"} }, false},
		{"a target with a space", ceremony.Stop, func(d *definition) { d.Target = &ceremony.KeyRef{Name: "k k", Version: 1} }, false},
		{"under nothing", ceremony.Export, func(d *definition) { d.Under = &ceremony.KeyRef{} }, false},
		{"a long block", ceremony.Import, func(d *definition) { d.Block = strings.Repeat("D", ceremony.MaxBlock) }, true},
		{"too long a block", ceremony.Import, func(d *definition) { d.Block = strings.Repeat("D", ceremony.MaxBlock+1) }, false},
		{"a block with a new line", ceremony.Import, func(d *definition) { d.Block += "\n" }, false},
		{"a long label", ceremony.Attach, func(d *definition) { d.Object = strings.Repeat("o", 129) }, false},
		{"version A is written", ceremony.Export, func(d *definition) { d.Export.Version = "A" }, false},
		{"version E is written", ceremony.Export, func(d *definition) { d.Export.Version = "E" }, false},
		{"no version", ceremony.Export, func(d *definition) { d.Export.Version = "" }, false},
		{"two versions", ceremony.Export, func(d *definition) { d.Export.Version = "BD" }, false},
		{"version C", ceremony.Export, func(d *definition) { d.Export.Version = "C" }, true},
		{"no exportability", ceremony.Export, func(d *definition) { d.Export.Exportability = "" }, false},
		{"an unknown exportability", ceremony.Export, func(d *definition) { d.Export.Exportability = "X" }, false},
		{"two exportabilities", ceremony.Export, func(d *definition) { d.Export.Exportability = "EN" }, false},
		{"a key version", ceremony.Export, func(d *definition) { d.Export.KeyVersion = "A1" }, true},
		{"a short key version", ceremony.Export, func(d *definition) { d.Export.KeyVersion = "1" }, false},
		{"a key version with a sign", ceremony.Export, func(d *definition) { d.Export.KeyVersion = "-1" }, false},
		{"a mode", ceremony.Export, func(d *definition) { d.Export.Mode = "E" }, true},
		{"two modes", ceremony.Export, func(d *definition) { d.Export.Mode = "ED" }, false},
		{"an initial key", ceremony.Export, func(d *definition) { d.Export.KSN = "FFFF9876543210E00000" }, true},
		{"an AES initial key", ceremony.Export, func(d *definition) { d.Export.KSN = "1234567890123456" }, true},
		{"a KSN in small letters", ceremony.Export, func(d *definition) { d.Export.KSN = "ffff9876543210e00000" }, false},
		{"a short KSN", ceremony.Export, func(d *definition) { d.Export.KSN = "FFFF98" }, false},
		{"a KSN that is no hex", ceremony.Export, func(d *definition) { d.Export.KSN = "ZZZZ9876543210E00000" }, false},
		{"an initial key of another mode", ceremony.Export, func(d *definition) { d.Export.KSN, d.Export.Mode = "1234567890123456", "E" }, false},
		{"too long a label", ceremony.Export, func(d *definition) { d.Export.Label = strings.Repeat("l", 129) }, false},
		{"a label with a tab", ceremony.Export, func(d *definition) { d.Export.Label = "a\tb" }, false},
		{"a block of the officers'", ceremony.Export, func(d *definition) { d.Export.Blocks = []ceremony.Optional{{ID: "10", Data: "x"}} }, true},
		{"a block with a long ID", ceremony.Export, func(d *definition) { d.Export.Blocks = []ceremony.Optional{{ID: "100"}} }, false},
		{"a block with too much", ceremony.Export, func(d *definition) {
			d.Export.Blocks = []ceremony.Optional{{ID: "10", Data: strings.Repeat("x", 4097)}}
		}, false},
		{"a block with a zero", ceremony.Export, func(d *definition) { d.Export.Blocks = []ceremony.Optional{{ID: "10", Data: "\x00"}} }, false},
		{"a check value by hand", ceremony.Export, func(d *definition) { d.Export.Blocks = []ceremony.Optional{{ID: "KC", Data: "00000000"}} }, false},
		{"that of the protection key", ceremony.Export, func(d *definition) { d.Export.Blocks = []ceremony.Optional{{ID: "KP", Data: "00000000"}} }, false},
		{"padding by hand", ceremony.Export, func(d *definition) { d.Export.Blocks = []ceremony.Optional{{ID: "PB"}} }, false},
		{"one holder", ceremony.Init, func(d *definition) { d.MasterKeys.Holders = []string{"alice"} }, false},
		{"a holder twice", ceremony.Init, func(d *definition) { d.MasterKeys.Holders = []string{"alice", "alice"} }, false},
		{"a holder who is no officer", ceremony.Init, func(d *definition) { d.MasterKeys.Holders = []string{"alice", "mallory"} }, false},
		{"a holder without a name", ceremony.Masters, func(d *definition) { d.MasterKeys.Holders = []string{"alice", ""} }, false},
		{"ten holders", ceremony.Masters, func(d *definition) { d.MasterKeys.Holders = strings.Split("a b c d e f g h i j", " ") }, false},
		{"present shares of one officer", ceremony.Masters, func(d *definition) { d.MasterKeys.Previous = []string{"alice"} }, false},
		{"no present shares", ceremony.Masters, func(d *definition) { d.MasterKeys.Previous = nil }, false},
		{"present shares before there are any", ceremony.Init, func(d *definition) { d.MasterKeys.Previous = []string{"alice", "bob"} }, false},
		{"a roster that is none", ceremony.Change, func(d *definition) { d.Roster.Quorum.Approvals = 1 }, false},
	} {
		d := definitions()[c.kind]
		if d == nil {
			d = definitions()[ceremony.Load]
			d.Kind = c.kind
		}
		c.change(d)
		err := d.Validate()
		if c.ok != (err == nil) || err != nil && !errors.Is(err, ceremony.ErrDefinition) {
			t.Errorf("%s: %v", c.name, err)
		}
		if again := d.Validate(); fmt.Sprint(again) != fmt.Sprint(err) {
			t.Errorf("%s: now %v, then %v", c.name, err, again)
		}
	}
}

// Each rule of a key's specification.
func TestKeySpecRules(t *testing.T) {
	type spec = ceremony.KeySpec
	rule := &hsm.IBM3624Rule{DecimalizationTable: "0123456789012345", Length: 16, Pad: "F"}
	base := func(s *spec) {
		*s = spec{Name: "bdk", Version: 1, Usage: "B0", Algorithm: "A", Length: 32, Mode: "X", Exportability: "N", Direction: hsm.DirectionIncoming, KSNCheck: hsm.KSNMonotonic}
	}
	pvk := func(s *spec) {
		*s = spec{Name: "pvk", Version: 1, Usage: "V1", Algorithm: "T", Length: 16, Mode: "V", Exportability: "N", IBM3624: rule}
	}
	mac := func(s *spec) {
		*s = spec{Name: "mac", Version: 1, Usage: "M7", Algorithm: "H", Length: 32, Mode: "C", Exportability: "N", Direction: hsm.DirectionBoth}
	}
	data := func(s *spec) {
		*s = spec{Name: "data", Version: 1, Usage: "D0", Algorithm: "A", Length: 32, Mode: "B", Exportability: "N", Direction: hsm.DirectionBoth, DataModes: []string{"CBC"}}
	}
	kbpk := func(s *spec) {
		*s = spec{Name: "kbpk", Version: 1, Usage: "K1", Algorithm: "A", Length: 32, Mode: "D", Exportability: "N"}
	}
	pair := func(s *spec) {
		*s = spec{Name: "host", Version: 1, Usage: "S0", Algorithm: "E", Length: 66, Mode: "S", Exportability: "N"}
	}
	for _, c := range []struct {
		name   string
		kind   func(*spec)
		change func(*spec)
		ok     bool
	}{
		{"a PIN key", nil, func(*spec) {}, true},
		{"a base derivation key", base, func(*spec) {}, true},
		{"a verification key", pvk, func(*spec) {}, true},
		{"an HMAC key", mac, func(*spec) {}, true},
		{"a data key", data, func(*spec) {}, true},
		{"a protection key", kbpk, func(*spec) {}, true},
		{"no name", nil, func(s *spec) { s.Name = "" }, false},
		{"a long name", nil, func(s *spec) { s.Name = strings.Repeat("n", 128) }, true},
		{"too long a name", nil, func(s *spec) { s.Name = strings.Repeat("n", 129) }, false},
		{"a name with a space", nil, func(s *spec) { s.Name = "a b" }, false},
		{"a name that begins with a sign", nil, func(s *spec) { s.Name = "-a" }, false},
		{"a name with a question mark", nil, func(s *spec) { s.Name = "a?version=2" }, false},
		{"no version", nil, func(s *spec) { s.Version = 0 }, false},
		{"no usage", nil, func(s *spec) { s.Usage = "" }, false},
		{"half a usage", nil, func(s *spec) { s.Usage = "P" }, false},
		{"an unknown usage", nil, func(s *spec) { s.Usage = "Z9" }, false},
		{"a usage of key pairs", nil, func(s *spec) { s.Usage = "S0" }, false},
		{"an initial value", nil, func(s *spec) { s.Usage, s.Mode, s.Direction, s.Peers, s.Formats = "I0", "N", "", nil, nil }, false},
		{"an algorithm of others", nil, func(s *spec) { s.Algorithm = "H" }, false},
		{"RSA", nil, func(s *spec) { s.Algorithm = "R" }, false},
		{"single DES", nil, func(s *spec) { s.Algorithm = "D" }, false},
		{"no algorithm", nil, func(s *spec) { s.Algorithm = "" }, false},
		{"two algorithms", nil, func(s *spec) { s.Algorithm = "AT" }, false},
		{"a mode of others", nil, func(s *spec) { s.Mode = "X" }, false},
		{"no mode", nil, func(s *spec) { s.Mode = "" }, false},
		{"two modes", nil, func(s *spec) { s.Mode = "BD" }, false},
		{"TDES of 8 bytes", nil, func(s *spec) { s.Length = 8 }, false},
		{"TDES of 24 bytes", nil, func(s *spec) { s.Length = 24 }, true},
		{"TDES of 32 bytes", nil, func(s *spec) { s.Length = 32 }, false},
		{"no length", nil, func(s *spec) { s.Length = 0 }, false},
		{"AES of 20 bytes", kbpk, func(s *spec) { s.Length = 20 }, false},
		{"AES of 24 bytes", kbpk, func(s *spec) { s.Length = 24 }, true},
		{"HMAC of 15 bytes", mac, func(s *spec) { s.Length = 15 }, false},
		{"HMAC of 64 bytes", mac, func(s *spec) { s.Length = 64 }, true},
		{"HMAC of 65 bytes", mac, func(s *spec) { s.Length = 65 }, false},
		{"no exportability", nil, func(s *spec) { s.Exportability = "" }, false},
		{"an unknown exportability", nil, func(s *spec) { s.Exportability = "e" }, false},
		{"a validity", nil, func(s *spec) { s.NotBefore, s.NotAfter = 5, 6 }, true},
		{"a validity of no time", nil, func(s *spec) { s.NotBefore, s.NotAfter = 5, 5 }, false},
		{"a validity before all time", nil, func(s *spec) { s.NotBefore = -1 }, false},
		{"a validity that ended before all time", nil, func(s *spec) { s.NotAfter = -1 }, false},
		{"no direction of a PIN key", nil, func(s *spec) { s.Direction = "" }, false},
		{"an unknown direction", nil, func(s *spec) { s.Direction = "up" }, false},
		{"a direction of a protection key", kbpk, func(s *spec) { s.Direction = hsm.DirectionBoth }, false},
		{"peers of a protection key", kbpk, func(s *spec) { s.Peers = []string{"*"} }, false},
		{"peers of a verification key", pvk, func(s *spec) { s.Peers = []string{"a"} }, true},
		{"a peer in capitals", nil, func(s *spec) { s.Peers = []string{"Acquirer"} }, false},
		{"a peer without a name", nil, func(s *spec) { s.Peers = []string{""} }, false},
		{"a long peer", nil, func(s *spec) { s.Peers = []string{strings.Repeat("p", 33)} }, false},
		{"too many peers", nil, func(s *spec) { s.Peers = strings.Split(strings.Repeat("p,", 33)+"p", ",") }, false},
		{"formats of a protection key", kbpk, func(s *spec) { s.Formats = []hsm.Format{hsm.Format0} }, false},
		{"a format twice", nil, func(s *spec) { s.Formats = []hsm.Format{hsm.Format0, hsm.Format0} }, false},
		{"ISO-4 of a TDES key", nil, func(s *spec) { s.Formats = []hsm.Format{hsm.Format4} }, false},
		{"ISO-0 of an AES key", nil, func(s *spec) { s.Algorithm = "A" }, false},
		{"ISO-4 of an AES key", nil, func(s *spec) { s.Algorithm, s.Formats = "A", []hsm.Format{hsm.Format4} }, true},
		{"ISO-2", nil, func(s *spec) { s.Formats = []hsm.Format{2} }, false},
		{"an unknown format", nil, func(s *spec) { s.Formats = []hsm.Format{9} }, false},
		{"every format of an AES BDK", base, func(s *spec) { s.Formats = []hsm.Format{hsm.Format0, hsm.Format1, hsm.Format3, hsm.Format4} }, true},
		{"ISO-4 of a TDES BDK", base, func(s *spec) { s.Algorithm, s.Length, s.Formats = "T", 16, []hsm.Format{hsm.Format4} }, false},
		{"a MAC length", mac, func(s *spec) { s.MACLength = 8 }, true},
		{"a short MAC", mac, func(s *spec) { s.MACLength = hsm.MinMAC - 1 }, false},
		{"a long MAC", mac, func(s *spec) { s.MACLength = 33 }, false},
		{"a MAC length of a PIN key", nil, func(s *spec) { s.MACLength = 8 }, false},
		{"two data modes", data, func(s *spec) { s.DataModes = []string{"CBC", "CTR"} }, false},
		{"an unknown data mode", data, func(s *spec) { s.DataModes = []string{"ECB"} }, false},
		{"data modes of a PIN key", nil, func(s *spec) { s.DataModes = []string{"CBC"} }, false},
		{"KSN checks off", base, func(s *spec) { s.KSNCheck = "" }, true},
		{"unknown KSN checks", base, func(s *spec) { s.KSNCheck = "some" }, false},
		{"KSN checks of a PIN key", nil, func(s *spec) { s.KSNCheck = hsm.KSNMonotonic }, false},
		{"a verification key without its rule", pvk, func(s *spec) { s.IBM3624 = nil }, false},
		{"a rule of a PIN key", nil, func(s *spec) { s.IBM3624 = rule }, false},
		{"a rule that binds no PAN", pvk, func(s *spec) { r := *rule; r.AllowUnboundPAN = true; s.IBM3624 = &r }, false},
		{"changes by a verification key", pvk, func(s *spec) { s.AllowChange = true }, true},
		{"PINs of records", nil, recordKey, true},
		{"PINs of records by a BDK", base, recordKey, true},
		{"PINs of another kind", nil, func(s *spec) { recordKey(s); s.PINKind = "phone" }, false},
		{"PINs of records by a data key", data, func(s *spec) { s.PINKind = hsm.PINRecord }, false},
		{"PINs of records that are sent", nil, func(s *spec) { recordKey(s); s.Direction = hsm.DirectionBoth }, false},
		{"PINs of records for peers", nil, func(s *spec) { recordKey(s); s.Peers = []string{"a"} }, false},
		{"PINs of records in ISO-1", nil, func(s *spec) { recordKey(s); s.Formats = []hsm.Format{hsm.Format0, hsm.Format1} }, false},
		{"changes by a PIN key", nil, func(s *spec) { s.AllowChange = true }, false},
		{"a key pair", pair, func(*spec) {}, true},
		{"peers of a key pair", pair, func(s *spec) { s.Peers = []string{"acquirer", "*"} }, true},
		{"a peer in capitals of a key pair", pair, func(s *spec) { s.Peers = []string{"A"} }, false},
		{"peers of a key pair that deciphers", pair, func(s *spec) { s.Usage, s.Mode, s.Peers = "K3", "D", []string{"*"} }, false},
		{"hosts of a base derivation key", base, func(s *spec) { s.InjectionHosts = []string{"host", "zone/host-2"} }, true},
		{"any host", base, func(s *spec) { s.InjectionHosts = []string{"*"} }, false},
		{"a host without a name", base, func(s *spec) { s.InjectionHosts = []string{""} }, false},
		{"eight hosts", base, func(s *spec) { s.InjectionHosts = strings.Split("a,b,c,d,e,f,g,h", ",") }, true},
		{"nine hosts", base, func(s *spec) { s.InjectionHosts = strings.Split("a,b,c,d,e,f,g,h,i", ",") }, false},
		{"hosts of a PIN key", nil, func(s *spec) { s.InjectionHosts = []string{"host"} }, false},
		{"hosts of a key pair", pair, func(s *spec) { s.InjectionHosts = []string{"host"} }, false},
		{"a terminal's name", nil, func(s *spec) { s.Name = "terminal:t-1:pin" }, false},
		{"the begin of a terminal's name", nil, func(s *spec) { s.Name = "terminal:" }, false},
		{"a name about terminals", nil, func(s *spec) { s.Name = "terminal/t-1:pin" }, true},
	} {
		s := keySpec()
		if c.kind != nil {
			c.kind(s)
		}
		c.change(s)
		if err := s.Validate(); c.ok != (err == nil) || err != nil && !errors.Is(err, ceremony.ErrDefinition) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// recordKey makes a specification one of a key for PINs of PIN records.
func recordKey(s *ceremony.KeySpec) {
	s.PINKind, s.Direction, s.Peers, s.Formats = hsm.PINRecord, hsm.DirectionIncoming, nil, []hsm.Format{hsm.Format0}
	if s.Algorithm == "A" {
		s.Formats = []hsm.Format{hsm.Format4}
	}
}

// A version that differs only in what does not decide its use is of the same use.
func TestSameUse(t *testing.T) {
	header := func(change func(*hsm.Header)) *hsm.Header {
		h := keySpec().Header()
		h.CheckValue, h.Fingerprint, h.Generation = "0A1B2C", "F", 1
		if change != nil {
			change(&h)
		}
		return &h
	}
	for name, c := range map[string]struct {
		change func(*hsm.Header)
		same   bool
	}{
		"nothing":       {func(*hsm.Header) {}, true},
		"version":       {func(h *hsm.Header) { h.Version = 2 }, true},
		"length":        {func(h *hsm.Header) { h.Length = 24 }, true},
		"value":         {func(h *hsm.Header) { h.CheckValue, h.Fingerprint, h.Generation = "D00DAD", "G", 2 }, true},
		"validity":      {func(h *hsm.Header) { h.NotBefore, h.NotAfter = 1, 2 }, true},
		"blocks":        {func(h *hsm.Header) { h.Blocks = []hsm.OptionalBlock{{ID: "LB", Data: "x"}} }, true},
		"name":          {func(h *hsm.Header) { h.Name = "other" }, false},
		"usage":         {func(h *hsm.Header) { h.Usage = "D0" }, false},
		"algorithm":     {func(h *hsm.Header) { h.Algorithm = "A" }, false},
		"mode":          {func(h *hsm.Header) { h.Mode = "E" }, false},
		"exportability": {func(h *hsm.Header) { h.Exportability = "E" }, false},
		"custody":       {func(h *hsm.Header) { h.Custody = hsm.CustodyModule }, false},
		"direction":     {func(h *hsm.Header) { h.Direction = hsm.DirectionOutgoing }, false},
		"peers":         {func(h *hsm.Header) { h.Peers = []string{"*"} }, false},
		"formats":       {func(h *hsm.Header) { h.Formats = nil }, false},
		"data modes":    {func(h *hsm.Header) { h.DataModes = []string{"CBC"} }, false},
		"MAC length":    {func(h *hsm.Header) { h.MACLength = 4 }, false},
		"KSN checks":    {func(h *hsm.Header) { h.KSNCheck = hsm.KSNMonotonic }, false},
		"rule":          {func(h *hsm.Header) { h.IBM3624 = &hsm.IBM3624Rule{} }, false},
		"kind of PINs":  {func(h *hsm.Header) { h.PINKind = hsm.PINRecord }, false},
		"changes":       {func(h *hsm.Header) { h.AllowChange = true }, false},
		"hosts":         {func(h *hsm.Header) { h.InjectionHosts = []string{"host"} }, false},
		"device":        {func(h *hsm.Header) { h.Device = "d0" }, false},
	} {
		if got := ceremony.SameUse(header(nil), header(c.change)); got != c.same {
			t.Errorf("%s differs: %v", name, got)
		}
	}
	huge := header(func(h *hsm.Header) { h.Name = strings.Repeat("n", hsm.MaxHeaderSize) })
	if ceremony.SameUse(huge, huge) {
		t.Error("headers that cannot be encoded are of the same use")
	}
}
