package injection

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/initialkey"
	"keyd/hsm/module/internal/keyblocks"
	"keyd/hsm/module/internal/keyvalue"
	"keyd/hsm/module/internal/ledger"
	"keyd/hsm/module/internal/locked"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
	"keyd/keyblock"
	"keyd/receipt"
	"keyd/tr34"
)

// work is an injection under way: what all methods do alike.
type work struct {
	engine  *Engine
	session *token.Session
	request *Request
	method  string             // of package receipt
	asked   *[sha256.Size]byte // digest of what the terminal has asked; nil where it has not

	epoch   *ceremony.Epoch
	now     time.Time
	host    *hsm.Header // of the pair
	pair    token.Pair
	masters *sealing.Masters

	region *locked.Region
	keys   []leaving // master key, receipt key, initial keys
	choice []byte    // what the digest of the choice of keys is of
	bound  []ledger.Entry
	out    hsm.Injected
}

// leaving is a key that leaves.
type leaving struct {
	record receipt.Key
	block  keyblock.Header // but for its version
	value  []byte          // in the region
}

// Where things lie in the region.
const (
	keySize      = 32
	protectionAt = 0           // key that a device and its host agree on
	otherAt      = keySize     // second source of a random key
	keysAt       = 2 * keySize // master, receipt, initial keys
	tokenAt      = keysAt + receipt.MaxKeys*keySize
	regionSize   = tokenAt + tr34.ScratchSize
)

// begin believes the device, and finds the host's key pair. The caller ends the work.
func (e *Engine) begin(s *token.Session, r *Request, method string, chain []*x509.Certificate, usage x509.KeyUsage) (w *work, err error) {
	w = &work{engine: e, session: s, request: r, method: method}
	if w.epoch, w.now, err = e.believe(r.Device, chain, usage); err != nil {
		return nil, err
	}
	if w.host, w.pair, err = e.host(s, r.Host, r.Certificates); err != nil {
		return nil, err
	}
	if w.masters, err = e.masters.Of(s, w.epoch.Generation); err != nil {
		return nil, err
	}
	if w.region, err = locked.New(regionSize); err != nil {
		return nil, err
	}
	return w, nil
}

func (w *work) end() { w.region.Free() }

func (w *work) memory(at, size int) []byte { return w.region.Bytes()[at : at+size : at+size] }

// make makes or derives all keys, and seals what stays here. carrier is the strength of what the
// method puts the master key under, and said what it is in a sentence; so are initial where
// initial keys go under it too.
func (w *work) make(carrier int, said string, initial bool) error {
	m := w.request.Master
	if carrier < strength(m.Algorithm, m.Length) {
		return tooWeak(named(m.Algorithm, m.Length), said)
	}
	if err := w.makeMaster(); err != nil {
		return err
	}
	if err := w.makeReceiptKey(); err != nil {
		return err
	}
	if !initial {
		carrier, said = strength(m.Algorithm, m.Length), "the master key, "+named(m.Algorithm, m.Length)
	}
	for i := range w.request.Keys {
		if err := w.derive(&w.request.Keys[i], carrier, said); err != nil {
			return err
		}
	}
	return w.seal()
}

func tooWeak(key, under string) error {
	return fault.New(fault.ExportForbidden, key+" does not go under what is weaker: "+under)
}

// next is room for the next key.
func (w *work) next(size int) []byte { return w.memory(keysAt+len(w.keys)*keySize, size) }

func (w *work) makeMaster() error {
	m := w.request.Master
	usage := "K1"
	if m.Bare {
		usage = "K0"
	}
	h := hsm.Header{
		Name: sealedName(w.request.Terminal, receipt.MasterName), Version: 1, Usage: usage, Algorithm: m.Algorithm, Mode: "E", Exportability: "N",
		Custody: hsm.CustodyToken, Peers: slices.Clone(w.host.Peers), Device: deviceHex(w.request.Device),
	}
	sealed, err := w.makeRandom(receipt.MasterName, 'D', m.Length, h)
	w.out.Master = sealed
	return err
}

// makeReceiptKey makes a key of the master key's algorithm. Here it verifies whole MACs, and no
// truncated ones, with which a MAC could be found out byte by byte.
func (w *work) makeReceiptKey() error {
	algorithm, whole := w.request.Master.Algorithm, uint8(16)
	if algorithm == "T" {
		whole = 8
	}
	h := hsm.Header{
		Name: sealedName(w.request.Terminal, receipt.ReceiptName), Version: 1, Usage: "M6", Algorithm: algorithm, Mode: "V", Exportability: "N",
		Custody: hsm.CustodyToken, Direction: hsm.DirectionIncoming, MACLength: whole, Device: deviceHex(w.request.Device),
	}
	sealed, err := w.makeRandom(receipt.ReceiptName, 'G', 16, h)
	w.out.ReceiptKey = sealed
	return err
}

// makeRandom makes a key that stays here too, sealed. mode is the terminal's mode of use.
func (w *work) makeRandom(name string, mode byte, size int, h hsm.Header) (sealed []byte, err error) {
	value := w.next(size)
	if err := keyvalue.Random(w.session, h.Algorithm, value, w.memory(otherAt, size)); err != nil {
		return nil, err
	}
	sealed, full, err := sealKey(w.session, w.masters, h, value)
	if err != nil {
		return nil, err
	}
	digest, err := ceremony.HeaderDigest(full)
	if err != nil {
		return nil, err
	}
	w.keys = append(w.keys, leaving{
		record: receipt.Key{Name: name, Usage: h.Usage, Algorithm: h.Algorithm, Length: uint16(size), CheckValue: full.CheckValue, Header: digest},
		block:  blockHeader(h.Usage, h.Algorithm, mode), value: value,
	})
	return sealed, nil
}

// sealKey seals a key, and returns its header as it was completed.
func sealKey(s *token.Session, m *sealing.Masters, h hsm.Header, value []byte) ([]byte, *hsm.Header, error) {
	sealed, err := m.Seal(s, h, value)
	if err != nil {
		return nil, nil, err
	}
	parsed, err := hsm.ParseSealed(sealed)
	if err != nil {
		return nil, nil, err
	}
	return sealed, parsed.Header, nil
}

func blockHeader(usage, algorithm string, mode byte) keyblock.Header {
	return keyblock.Header{Usage: usage, Algorithm: algorithm[0], Mode: mode, KeyVersion: "00", Exportability: 'N', Reserved: "00"}
}

// derive derives an initial key that goes under what has the strength of carrier.
func (w *work) derive(k *hsm.InitialKey, carrier int, said string) error {
	bdk, err := w.engine.keys.Open(w.session, k.BDK)
	if err != nil {
		return err
	}
	defer bdk.Release()
	h := bdk.Header
	if err := initialkey.Check(h); err != nil {
		return err
	}
	if !slices.Contains(h.InjectionHosts, w.host.Name) && !slices.Contains(h.InjectionHosts, "*") {
		return fault.New(fault.KeyUsageMismatch, "officers have not allowed that initial keys of "+h.Name+" go to terminals from this host (injection_hosts)")
	}
	i, err := initialkey.Derive(w.session, &bdk, k.ID, w.next(initialkey.MaxSize))
	if err != nil {
		return err
	}
	if strength(h.Algorithm, len(i.Value)) > carrier {
		return tooWeak(named(h.Algorithm, len(i.Value)), said)
	}
	check, err := sealing.CheckValue(w.session, h.Algorithm, i.Value)
	if err != nil {
		return err
	}
	w.keys = append(w.keys, leaving{
		record: receipt.Key{
			Name: k.Name, Usage: "B1", Algorithm: h.Algorithm, Length: uint16(len(i.Value)), BDK: h.Name, BDKVersion: h.Version,
			ID: fmt.Sprintf("%X", k.ID), CheckValue: check,
		},
		block: *i.Header(0, 'N', h), value: i.Value,
	})
	w.bound = append(w.bound, ledger.NewEntry(h.Fingerprint, i.ID, w.request.Device))
	w.choice = binary.BigEndian.AppendUint16(w.choice, uint16(len(h.Fingerprint)))
	w.choice = append(append(w.choice, h.Fingerprint...), i.ID[:]...)
	return nil
}

// recordPurpose tells the code of a record from other codes.
const recordPurpose = "injection record"

// seal makes the record.
func (w *work) seal() error {
	r := receipt.Record{
		Injection: hex.EncodeToString(w.request.ID[:]), Terminal: w.request.Terminal, Device: deviceHex(w.request.Device),
		Method: w.method, Host: w.host.Name, At: w.now.Unix(),
	}
	for i := range w.keys {
		r.Keys = append(r.Keys, w.keys[i].record)
	}
	encoded, err := r.Encode()
	if err != nil {
		return err
	}
	var code [receipt.CodeSize]byte
	if err := w.masters.Authenticate(w.session, code[:], recordPurpose, encoded); err != nil {
		return err
	}
	w.out.Record = append(encoded, code[:]...)
	return nil
}

// bind has the ledger bind the terminal's request to this choice of keys, and all initial keys to
// the device. Keys may leave after it.
func (w *work) bind() error {
	entries := w.bound
	if w.asked != nil {
		h := sha256.New()
		h.Write([]byte("keyd injection choice 1\x00"))
		h.Write(w.request.Device[:])
		bare := byte(0)
		if w.request.Master.Bare {
			bare = 1
		}
		h.Write([]byte{w.request.Master.Algorithm[0], byte(w.request.Master.Length), bare, byte(len(w.request.Keys))})
		h.Write(w.choice)
		entries = append([]ledger.Entry{ledger.NewRequestEntry(*w.asked, [sha256.Size]byte(h.Sum(nil)))}, entries...)
	}
	if len(entries) == 0 {
		return nil
	}
	return ledger.Refusal(w.engine.ledger.Bind(entries...))
}

// wrap writes key blocks of keys under a clear key in the region.
func (w *work) wrap(keys []leaving, algorithm string, protection []byte) (blocks []string, err error) {
	keyType, err := sealing.KeyType(algorithm, len(protection))
	if err != nil {
		return nil, err
	}
	kbpk := keyblocks.KBPK{Algorithm: algorithm, Length: len(protection)}
	if kbpk.Key, err = w.session.Import(keyType, token.MaySign, protection); err != nil {
		return nil, err
	}
	defer func() {
		if gone := w.session.Destroy(kbpk.Key); gone != nil {
			blocks, err = nil, errors.Join(err, gone)
		}
	}()
	for i := range keys {
		h := keys[i].block
		h.Version = version(algorithm)
		block, err := keyblocks.Wrap(w.session, kbpk, &h, keys[i].value)
		if err != nil {
			return nil, err
		}
		blocks = append(blocks, string(block))
	}
	return blocks, nil
}
