package development

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"keyd/dukpt"
	"keyd/dukpt/software"
)

// Terminals are the simulated terminals of a new service, by their file names in
// terminals/: each holds the initial key of a sample BDK for one KSN.
var Terminals = []struct{ Name, BDK, KSN string }{
	{"tdes", "bdk-tdes", "FFFF9876543210E00000"},
	{"aes", "bdk-aes", "123456789012345600000000"},
	{"supervisor", "bdk-supervisor", "123456789012345700000000"}, // for PINs of supervisors
}

func (s *Service) terminals() error {
	for _, t := range Terminals {
		state, err := terminalState(t.BDK, t.KSN)
		if err != nil {
			return fmt.Errorf("terminal %s: %w", t.Name, err)
		}
		if _, err := createFile(s.path("terminals", t.Name+".json"), state, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// terminalState loads a terminal with the initial key for a KSN, as key injection
// does.
func terminalState(bdkName, ksnHex string) ([]byte, error) {
	bdk, err := sampleKey(bdkName)
	if err != nil {
		return nil, err
	}
	raw, err := hex.DecodeString(ksnHex)
	if err != nil {
		return nil, err
	}
	ksn, err := dukpt.ParseInitialKSN(raw)
	if err != nil {
		return nil, err
	}
	initial := make([]byte, len(bdk))
	if ksn.Scheme() == dukpt.TDES {
		err = software.TDESInitialKey(initial, bdk, ksn)
	} else {
		var kind dukpt.KeyType
		var path dukpt.Path
		if kind, err = dukpt.AESKeyType(len(bdk)); err != nil {
			return nil, err
		}
		if path, err = dukpt.NewInitialKeyPath(ksn, kind); err != nil {
			return nil, err
		}
		err = software.AESDerive(initial, bdk, path)
	}
	if err != nil {
		return nil, err
	}
	terminal, err := software.NewTerminal(initial, ksn)
	if err != nil {
		return nil, err
	}
	defer terminal.Destroy()
	return terminal.MarshalState()
}

func sampleKey(name string) ([]byte, error) {
	var keys []struct{ Name, Value string }
	if err := json.Unmarshal(SampleKeys, &keys); err != nil {
		return nil, err
	}
	for _, k := range keys {
		if k.Name == name {
			return hex.DecodeString(k.Value)
		}
	}
	return nil, errors.New("no sample key of that name")
}
