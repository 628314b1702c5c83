package injecting

import (
	"context"
	"encoding/pem"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"keyd/ceremony"
	"keyd/development"
	"keyd/officer"
	"keyd/simulator"
)

// ApproversDir is where the authority of approvers lies in a service's directory, with the approvers'
// keys and certificates.
const ApproversDir = "approvers"

// Approvers are those of a development service, who approve for any merchant. Their keys have no
// passphrase.
var Approvers = []string{"anna", "bert"}

// PrepareApprovers makes approvers, and has officers believe their authority. What is there stays.
func PrepareApprovers(ctx context.Context, dir string, officers []Officer) ([]Step, error) {
	if len(officers) == 0 {
		return nil, errors.New("there is no officer")
	}
	p := &preparation{dir: dir, officers: officers}
	a, err := p.authority(ApproversDir, "keyd development authority of approvers", "P-384")
	if err != nil {
		return p.steps, err
	}
	if err := p.trust(ctx, a, ceremony.UseApprovers); err != nil {
		return p.steps, err
	}
	for _, name := range Approvers {
		if err := p.approver(a, name); err != nil {
			return p.steps, err
		}
	}
	return p.steps, nil
}

func (p *preparation) approver(a *simulator.Authority, name string) error {
	path := filepath.Join(p.dir, ApproversDir, name)
	if _, err := officer.CreateUnprotectedKey(path + ".key"); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	_, err := os.Stat(path + ".crt")
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		p.step(false, "approver %s in %s", name, filepath.Join(p.dir, ApproversDir))
		return err
	}
	key, err := officer.OpenKey(path+".key", nil)
	if err != nil {
		return err
	}
	der, err := a.Approver(&url.URL{Scheme: "spiffe", Host: development.TrustDomain, Path: "/approvers/" + name}, key.Public())
	if err != nil {
		return err
	}
	p.step(true, "approver %s in %s", name, filepath.Join(p.dir, ApproversDir))
	return simulator.WriteFile(path+".crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}
