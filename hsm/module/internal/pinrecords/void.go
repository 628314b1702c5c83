package pinrecords

import (
	"crypto/elliptic"
	"crypto/sha256"
	"slices"
	"strings"

	"keyd/dukpt"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/pinops"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
	"keyd/pinblock"
	"keyd/pinrecord"
	"keyd/voidtoken"
)

// MaxPINs is how many PINs a void is authorised with: a supervisor's and a cardholder's.
const MaxPINs = 2

// leastMAC is how many bytes the MAC of a void has at least.
const leastMAC = 8

// voiding is an authorisation under way. It is made once: what was counted stays counted if the token
// has to be asked again.
type voiding struct {
	*hsm.AuthorizeVoid
	pins []voidPIN
}

type voidPIN struct {
	*hsm.VoidPIN
	counted bool
	try     *pinops.Try // of a cardholder's

	record *sealedRecord
	key    sealing.Key // of the record's datum
}

// Authorize verifies all PINs and MACs of a void and signs its token. Nothing is signed unless all
// are right, and which is not is not said.
func (e *Engine) Authorize(r hsm.AuthorizeVoid) (answer hsm.AuthorizedVoid, err error) {
	v := &voiding{AuthorizeVoid: &r}
	if err := v.check(); err != nil {
		return answer, err
	}
	err = e.do(func(s *token.Session) (err error) {
		answer, err = e.authorize(s, v)
		return err
	})
	if err != nil {
		return hsm.AuthorizedVoid{}, err
	}
	return answer, nil
}

// check looks at the shape ([fault.RequestInvalid]).
func (v *voiding) check() error {
	if err := v.Fields.Validate(); err != nil {
		return fault.New(fault.RequestInvalid, err.Error())
	}
	if len(v.PINs) == 0 || len(v.PINs) > MaxPINs {
		return fault.New(fault.RequestInvalid, "a void is authorised with one PIN or two")
	}
	for i := range v.PINs {
		p := voidPIN{VoidPIN: &v.PINs[i]}
		if (p.Record == nil) == (p.Cardholder == nil) {
			return fault.New(fault.RequestInvalid, "")
		}
		if p.Phone != nil {
			if p.Record == nil || len(v.PINs) > 1 || len(p.MAC) > 0 {
				return fault.New(fault.RequestInvalid, "a phone has one PIN, a supervisor's, and no MAC")
			}
		} else if len(p.MAC) < leastMAC {
			return fault.New(fault.RequestInvalid, "the MAC of a void has 8 bytes or more")
		}
		if h := p.Cardholder; h != nil {
			p.try = &pinops.Try{VerifyPIN: hsm.VerifyPIN{
				Incoming: p.Key, Verification: h.Verification, PAN: h.PAN, Block: p.Block, VisaPVV: h.VisaPVV, IBM3624: h.IBM3624, Demands: v.Demands,
			}}
		}
		v.pins = append(v.pins, p)
	}
	return nil
}

func (e *Engine) authorize(s *token.Session, v *voiding) (answer hsm.AuthorizedVoid, err error) {
	now := e.register.Now()
	if err := checkLife(now, v.ExpiresAt); err != nil {
		return answer, err
	}
	pair, err := e.signing(s, v.TokenKey, elliptic.P256(), elliptic.P384())
	if err != nil {
		return answer, err
	}
	defer v.release()
	authorizations, err := e.prepare(s, v)
	if err != nil {
		return answer, err
	}
	digest, err := v.Fields.Digest()
	if err != nil {
		return answer, err
	}
	all := true
	for i := range v.pins {
		p := &v.pins[i]
		if p.Phone != nil { // the block's own key is bound to the void
			continue
		}
		bound := pinrecord.Bound(digest, p.Block, p.Key.KSN != dukpt.KSN{})
		mac, err := e.macs.VerifyOn(s, &hsm.VerifyMAC{Key: p.MACKey, Message: bound, MAC: p.MAC}) // demands are the PIN's
		if err != nil {
			return answer, err
		}
		all = mac.Verified && all
	}
	clear(s.Scratch()) // what MACs have left there
	pins, err := e.compare(s, v, digest)
	if err == nil {
		err = v.refusal()
	}
	if err != nil || !pins || !all {
		return answer, err
	}
	answer.Token, err = voidtoken.Sign(s.Signer(pair), voidtoken.Token{Fields: v.Fields, Authorizations: authorizations, AuthorizedAt: now.Unix(), ExpiresAt: v.ExpiresAt})
	answer.Verified = err == nil
	return answer, tokenRefusal(err)
}

// prepare opens records and their keys, and checks everything that can be checked without a PIN.
func (e *Engine) prepare(s *token.Session, v *voiding) (authorizations []voidtoken.Authorization, err error) {
	for i := range v.pins {
		p := &v.pins[i]
		said := voidtoken.Authorization{Method: voidtoken.CardholderPIN, Subject: "cardholder"}
		if r := p.Record; r != nil {
			if p.record, err = e.shown(s, r.Record); err != nil {
				return nil, err
			}
			if p.key, err = e.datumKey(s, r.DatumKey, &p.record.Key); err != nil {
				return nil, err
			}
			if !p.record.Subject.Serves(&v.Fields) {
				return nil, fault.New(fault.RequestInvalid, "the PIN record is of another merchant or terminal")
			}
			if err := e.stands(p.record); err != nil {
				return nil, err
			}
			said.Subject = p.record.Subject.Name
			if p.record.Subject.Kind == pinrecord.Supervisor {
				said.Method = voidtoken.SupervisorPIN
			}
			if p.Phone != nil {
				said.Method = voidtoken.PhonePIN
			}
		}
		if err := e.checkBinding(s, p, &v.Fields); err != nil {
			return nil, err
		}
		if slices.ContainsFunc(authorizations, func(a voidtoken.Authorization) bool {
			return a.Method == said.Method || a.Subject == said.Subject
		}) {
			return nil, fault.New(fault.RequestInvalid, "two PINs are a supervisor's and a cardholder's, who are two people")
		}
		authorizations = append(authorizations, said)
	}
	order := voidtoken.Methods()
	slices.SortFunc(authorizations, func(a, b voidtoken.Authorization) int {
		return slices.Index(order, a.Method) - slices.Index(order, b.Method)
	})
	return authorizations, nil
}

// checkBinding refuses a MAC that would not bind the PIN block to this void at this terminal, or that
// a front could have a module make: under DUKPT it has the block's own key serial number, and the BDK
// is for requests from terminals only; any other is a CMAC, made with a session key of the terminal
// that the void names.
func (e *Engine) checkBinding(s *token.Session, p *voidPIN, f *voidtoken.Fields) error {
	if p.Phone != nil { // its key is of this void alone
		return nil
	}
	unbound := func(detail string) error { return fault.New(fault.KeyUsageMismatch, detail) }
	underDUKPT := p.Key.KSN != dukpt.KSN{}
	switch {
	case p.MACKey.Response:
		return unbound("the MAC of a void is the terminal's")
	case underDUKPT && (p.MACKey.KSN != p.Key.KSN || p.MACKey.Key.Name != p.Key.Key.Name || !slices.Equal(p.MACKey.Key.Sealed, p.Key.Key.Sealed)):
		return unbound("the MAC of a void has the key serial number of its PIN block, under the same key")
	case !underDUKPT && p.MACKey.KSN != dukpt.KSN{}:
		return unbound("the MAC of a void comes under DUKPT where its PIN block does")
	case !underDUKPT && p.MACKey.Algorithm != hsm.CMAC:
		return unbound("the MAC of a void is a CMAC where it does not come under DUKPT")
	}
	mac, err := e.keys.Open(s, p.MACKey.Key)
	if err != nil {
		return err
	}
	defer mac.Release()
	if underDUKPT {
		if mac.Header.Outgoing() {
			return unbound("the MAC of a void comes under a BDK whose direction is incoming: with another, requests of its terminals are made here as well")
		}
		return nil
	}
	pin, err := e.keys.Open(s, p.Key.Key)
	if err != nil {
		return err
	}
	defer pin.Release()
	device := mac.Header.Device
	if device == "" || !strings.HasPrefix(mac.Header.Name, hsm.TerminalPrefix+f.Terminal+":") {
		return unbound("the MAC of a void is made with a session key of the void's terminal")
	}
	if pin.Header.Device != "" && pin.Header.Device != device {
		return unbound("the keys of PIN block and MAC are of two terminals")
	}
	return nil
}

// compare says whether all PINs are right. Each is counted once before.
func (e *Engine) compare(s *token.Session, v *voiding, digest [sha256.Size]byte) (all bool, err error) {
	var openings []pinops.Opening
	var records []*voidPIN
	var tries []*pinops.Try
	for i := range v.pins {
		p := &v.pins[i]
		if p.record == nil {
			tries = append(tries, p.try)
			continue
		}
		records = append(records, p)
		o, err := e.entry(s, &hsm.RecordBlock{Key: p.Key, Block: p.Block, Phone: p.Phone}, &p.record.Subject, v.Demands, pinrecord.OfVoid(digest, &p.record.Subject))
		if err != nil {
			return false, err
		}
		openings = append(openings, o)
	}
	count := func() error {
		for _, p := range records {
			if err := once(&p.counted, func() bool { return e.tries.Record(p.record.Subject.Digest()) }); err != nil {
				return err
			}
		}
		return nil
	}
	err = e.pins.Open(s, openings, tries, count, func(pins []*pinblock.PIN, room []byte) error {
		wrong := 0
		for i, p := range records {
			datum, err := pinDatum(s, p.key.Object, room, pins[i], &p.record.Subject, p.record.Version)
			if err != nil {
				return err
			}
			wrong |= 1 - bit(p.record.live() && right(datum, p.record.Datum, pins[i]))
		}
		for _, t := range tries {
			wrong |= 1 - bit(t.Verified)
		}
		all = wrong == 0
		return nil
	})
	return all && err == nil, err
}

// refusal is that of a record with which nothing was compared. It comes last; see [verdict].
func (v *voiding) refusal() error {
	for i := range v.pins {
		if r := v.pins[i].record; r != nil && !r.live() {
			return r.refusal
		}
	}
	return nil
}

func (v *voiding) release() {
	for i := range v.pins {
		v.pins[i].key.Release()
	}
}
