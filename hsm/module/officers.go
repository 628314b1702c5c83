package module

import (
	"crypto/x509/pkix"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"keyd/ceremony"
	"keyd/hsm"
	"keyd/hsm/internal/wire"
	"keyd/hsm/module/internal/quorum"
	"keyd/hsm/module/internal/register"
	"keyd/hsm/module/internal/token"
)

// What officers ask through a front: shapes, calls and answers. Nothing here is believed:
// package quorum checks every signature, package register every epoch.

// withSession carries out an operation with a session; once more, where the token has lost
// it.
func withSession[A any](s *server, f func(*token.Session) (A, error)) (answer A, err error) {
	err = s.engines.keys.Do(func(session *token.Session) (err error) { answer, err = f(session); return err })
	return answer, err
}

func nothing[M proto.Message](M) (struct{}, error) { return struct{}{}, nil }

func loadEpoch(m *wire.LoadEpoch) (*wire.LoadEpoch, error) { return m, nil }

func (s *server) loadEpoch(m *wire.LoadEpoch) (struct{}, error) {
	return withSession(s, func(session *token.Session) (struct{}, error) {
		if m.Proposal {
			return struct{}{}, s.engines.register.Offer(session, m.Epoch)
		}
		return struct{}{}, s.engines.register.Load(session, m.Epoch)
	})
}

func epochLoaded(struct{}) proto.Message { return &wire.EpochLoaded{} }

func commitEpoch(m *wire.CommitEpoch) ([]byte, error) { return m.Epoch, nil }

func (s *server) commitEpoch(epoch []byte) (link []byte, err error) {
	link, err = withSession(s, func(session *token.Session) ([]byte, error) {
		return s.engines.officers.Commit(session, epoch)
	})
	if err == nil {
		err = s.store.Sync() // that what was destroyed does not come back
	}
	return link, err
}

func epochCommitted(link []byte) proto.Message { return &wire.EpochCommitted{Link: link} }

type following struct {
	epoch []byte
	links [][]byte
}

func followEpoch(m *wire.FollowEpoch) (following, error) {
	if len(m.Links) > register.MaxLinks {
		return following{}, malformed
	}
	return following{m.Epoch, m.Links}, nil
}

func (s *server) followEpoch(f following) (struct{}, error) {
	_, err := withSession(s, func(session *token.Session) (struct{}, error) {
		return struct{}{}, s.engines.officers.Follow(session, f.epoch, f.links)
	})
	if err == nil {
		err = s.store.Sync()
	}
	return struct{}{}, err
}

func epochFollowed(struct{}) proto.Message { return &wire.EpochFollowed{} }

func (s *server) firstEpoch(struct{}) ([]byte, error) { return withSession(s, register.First) }

func epochDocument(epoch []byte) proto.Message { return &wire.EpochDocument{Epoch: epoch} }

func (s *server) identity(struct{}) (ceremony.Signed, error) {
	return withSession(s, s.engines.officers.Identity)
}

func identityDocument(d ceremony.Signed) proto.Message {
	return &wire.IdentityDocument{Identity: wireSigned(d)}
}

// keyInputs checks the shape of the keys that a definition names.
func keyInputs(m *wire.KeyInputs) (in quorum.Inputs, err error) {
	for _, k := range []struct {
		from *wire.SealedKey
		into **hsm.Key
	}{{m.GetUnder(), &in.Under}, {m.GetTarget(), &in.Target}, {m.GetPrevious(), &in.Previous}} {
		if k.from == nil {
			continue
		}
		given, err := key(k.from)
		if err != nil {
			return in, err
		}
		*k.into = &given
	}
	in.Register = m.GetRegister()
	return in, nil
}

func signedDocument(m *wire.Signed) (ceremony.Signed, error) {
	if m == nil || len(m.Document) == 0 || len(m.Document) > ceremony.MaxDocument || len(m.Signature) == 0 || len(m.Signature) > 512 {
		return ceremony.Signed{}, malformed
	}
	return ceremony.Signed{Document: m.Document, Signature: m.Signature}, nil
}

func wireSigned(d ceremony.Signed) *wire.Signed {
	return &wire.Signed{Document: d.Document, Signature: d.Signature}
}

type beginning struct {
	definition []byte
	statement  ceremony.Signed
	keys       quorum.Inputs
}

func beginCeremony(m *wire.BeginCeremony) (b beginning, err error) {
	if b.statement, err = signedDocument(m.Statement); err != nil {
		return b, err
	}
	b.definition = m.Definition
	b.keys, err = keyInputs(m.Keys)
	return b, err
}

func (s *server) beginCeremony(b beginning) (ceremony.Signed, error) {
	return withSession(s, func(session *token.Session) (ceremony.Signed, error) {
		return s.engines.officers.Begin(session, b.definition, b.statement, b.keys)
	})
}

func ceremonyOpened(d ceremony.Signed) proto.Message {
	return &wire.CeremonyOpened{Opening: wireSigned(d)}
}

type proceeding struct {
	papers *ceremony.Proceedings
	keys   quorum.Inputs
}

// maxPapers bounds encoded proceedings, in bytes.
const maxPapers = 256 << 10

func proceedings(papers []byte, keys *wire.KeyInputs) (p proceeding, err error) {
	if p.papers, err = ceremony.Decode[ceremony.Proceedings](papers, maxPapers); err != nil {
		return p, malformed
	}
	p.keys, err = keyInputs(keys)
	return p, err
}

func checkCeremony(m *wire.CheckCeremony) (proceeding, error) { return proceedings(m.Papers, m.Keys) }

func (s *server) checkCeremony(p proceeding) (string, error) {
	return withSession(s, func(session *token.Session) (string, error) {
		return s.engines.officers.Check(session, p.papers, p.keys)
	})
}

func ceremonyChecked(checkValue string) proto.Message {
	return &wire.CeremonyChecked{CheckValue: checkValue}
}

func carryOutCeremony(m *wire.CarryOutCeremony) (proceeding, error) {
	return proceedings(m.Papers, m.Keys)
}

func (s *server) carryOut(p proceeding) (*quorum.CarriedOut, error) {
	return withSession(s, func(session *token.Session) (*quorum.CarriedOut, error) {
		var out *quorum.CarriedOut
		err := s.store.Keep(func() (err error) {
			out, err = s.engines.officers.CarryOut(session, p.papers, p.keys)
			return err
		})
		return out, err
	})
}

func carriedOut(c *quorum.CarriedOut) proto.Message {
	m := &wire.CeremonyCarriedOut{Epoch: c.Epoch, Block: c.Block, Record: wireSigned(c.Record), Link: c.Link}
	if c.Key != nil {
		m.Key = &wire.SealedKey{Name: c.Key.Name, Sealed: c.Key.Sealed}
	}
	return m
}

type calledOff struct {
	papers    *ceremony.Proceedings
	statement ceremony.Signed
}

func abortCeremony(m *wire.AbortCeremony) (a calledOff, err error) {
	if a.statement, err = signedDocument(m.Statement); err != nil {
		return a, err
	}
	p, err := proceedings(m.Papers, nil)
	a.papers = p.papers
	return a, err
}

func (s *server) abortCeremony(a calledOff) ([]byte, error) {
	return withSession(s, func(session *token.Session) ([]byte, error) {
		return s.engines.officers.Abort(session, a.papers, a.statement)
	})
}

func resealKey(m *wire.Reseal) (hsm.Key, error) { return key(m.Key) }

func (s *server) reseal(k hsm.Key) ([]byte, error) {
	return withSession(s, func(session *token.Session) ([]byte, error) {
		return s.engines.officers.Reseal(session, k.Sealed)
	})
}

func resealed(sealed []byte) proto.Message { return &wire.Resealed{Sealed: sealed} }

type certification struct {
	key      hsm.Key
	subject  pkix.Name
	dnsNames []string
}

// maxSubject bounds a part of a subject, in bytes, and the number of DNS names.
const maxSubject = 64

func certificateRequest(m *wire.CertificateRequest) (c certification, err error) {
	if c.key, err = key(m.Key); err != nil {
		return c, err
	}
	one := func(text string) []string {
		if text == "" {
			return nil
		}
		return []string{text}
	}
	for _, text := range append([]string{m.CommonName, m.Organization, m.OrganizationalUnit, m.Country, m.Province, m.Locality}, m.DnsNames...) {
		if len(text) > 4*maxSubject || !utf8.ValidString(text) {
			return c, malformed
		}
	}
	if len(m.DnsNames) > maxSubject || m.CommonName == "" {
		return c, malformed
	}
	c.subject = pkix.Name{
		CommonName: m.CommonName, Organization: one(m.Organization), OrganizationalUnit: one(m.OrganizationalUnit),
		Country: one(m.Country), Province: one(m.Province), Locality: one(m.Locality),
	}
	c.dnsNames = m.DnsNames
	return c, nil
}

func (s *server) certificateRequest(c certification) ([]byte, error) {
	return withSession(s, func(session *token.Session) ([]byte, error) {
		return s.engines.officers.CertificateRequest(session, c.key, c.subject, c.dnsNames)
	})
}

func certificateRequested(request []byte) proto.Message {
	return &wire.CertificateRequested{Request: request}
}
