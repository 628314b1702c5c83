package backup

import (
	"errors"
	"time"

	"keyd/store"
)

// What a backup has of the keys that terminals get, as documents. Times are microseconds from
// 1970, 0 is none.

type keyHostDocument struct {
	Name         string `json:"name"`
	Key          string `json:"key"`
	Certificates []byte `json:"certificates"`
	List         []byte `json:"list,omitempty"`
	ChangedAt    int64  `json:"changed_at"`
}

type keySetDocument struct {
	Name      string `json:"name"`
	Version   uint32 `json:"version"`
	Content   []byte `json:"content"`
	CreatedAt int64  `json:"created_at"`
}

type revocationListDocument struct {
	IssuerKey  []byte `json:"issuer_key"`
	Issuer     string `json:"issuer,omitempty"`
	Number     string `json:"number,omitempty"`
	Entries    uint32 `json:"entries,omitempty"`
	ThisUpdate int64  `json:"this_update"`
	NextUpdate int64  `json:"next_update"`
	Digest     []byte `json:"digest"`
	Issuers    []byte `json:"issuers,omitempty"`
	List       []byte `json:"list"`
	StoredAt   int64  `json:"stored_at"`
}

type injectionDocument struct {
	ID            string               `json:"id"`
	Terminal      string               `json:"terminal"`
	Number        uint64               `json:"number"`
	State         store.InjectionState `json:"state"`
	Method        string               `json:"method"`
	KeySet        string               `json:"key_set"`
	KeySetVersion uint32               `json:"key_set_version"`
	Request       []byte               `json:"request"`
	Nonce         []byte               `json:"nonce,omitempty"`
	Keys          []allottedDocument   `json:"keys,omitempty"`
	Revision      uint64               `json:"revision"`
	Answer        []byte               `json:"answer,omitempty"`
	KeyBlocks     []string             `json:"key_blocks,omitempty"`
	Record        []byte               `json:"record,omitempty"`
	Receipt       []byte               `json:"receipt,omitempty"`
	Statement     []byte               `json:"statement,omitempty"`
	Failure       string               `json:"failure,omitempty"`
	Created       int64                `json:"created"`
	ConfirmBy     int64                `json:"confirm_by"`
	Confirmed     int64                `json:"confirmed,omitempty"`
}

type allottedDocument struct {
	Name string `json:"name"`
	BDK  string `json:"bdk"`
	ID   []byte `json:"id"`
}

type initialKeyDocument struct {
	BDK       string `json:"bdk"`
	ID        []byte `json:"id"`
	Terminal  string `json:"terminal"`
	Injection string `json:"injection"`
	Confirmed bool   `json:"confirmed,omitempty"`
}

type rangeDocument struct {
	BDK    string `json:"bdk"`
	Prefix []byte `json:"prefix"`
	First  uint32 `json:"first,omitempty"`
	Next   uint64 `json:"next"`
}

type terminalKeyDocument struct {
	Terminal  string `json:"terminal"`
	Name      string `json:"name"`
	Version   uint32 `json:"version"`
	Injection string `json:"injection"`
	Sealed    []byte `json:"sealed"`
	NotAfter  int64  `json:"not_after,omitempty"`
	CreatedAt int64  `json:"created_at"`
}

// encodeInjected is encode of these.
func encodeInjected(b []byte, i *store.Item) ([]byte, error) {
	switch {
	case i.KeyHost != nil:
		h := i.KeyHost
		return document(b, kindKeyHost, &keyHostDocument{h.Name, h.Key, h.Certificates, h.List, h.ChangedAt.UnixMicro()})
	case i.KeySet != nil:
		k := i.KeySet
		return document(b, kindKeySet, &keySetDocument{k.Name, k.Version, k.Content, k.CreatedAt.UnixMicro()})
	case i.RevocationList != nil:
		l := i.RevocationList
		return document(b, kindRevocationList, &revocationListDocument{
			l.IssuerKey, l.Issuer, l.Number, l.Entries, l.ThisUpdate.UnixMicro(), l.NextUpdate.UnixMicro(), l.Digest, l.Issuers, l.List, l.StoredAt.UnixMicro(),
		})
	case i.Injection != nil:
		n := i.Injection
		d := &injectionDocument{
			n.ID, n.Terminal, n.Number, n.State, n.Method, n.KeySet, n.KeySetVersion, n.Request, n.Nonce, nil, n.Revision, n.Answer, n.KeyBlocks,
			n.Record, n.Receipt, n.Statement, n.Failure, n.Created.UnixMicro(), n.ConfirmBy.UnixMicro(), orZero(n.Confirmed),
		}
		for _, k := range n.Keys {
			d.Keys = append(d.Keys, allottedDocument(k))
		}
		return document(b, kindInjection, d)
	case i.InitialKey != nil:
		return document(b, kindInitialKey, (*initialKeyDocument)(i.InitialKey))
	case i.Range != nil:
		return document(b, kindRange, (*rangeDocument)(i.Range))
	case i.TerminalKey != nil:
		k := i.TerminalKey
		return document(b, kindTerminalKey, &terminalKeyDocument{k.Terminal, k.Name, k.Version, k.Injection, k.Sealed, k.NotAfter.UnixMicro(), k.CreatedAt.UnixMicro()})
	}
	return nil, errors.New("backup: an item of no kind")
}

// decodeInjected is decode of these.
func decodeInjected(k kind, payload []byte, i *store.Item) error {
	switch k {
	case kindKeyHost:
		d, err := parse[keyHostDocument](payload)
		if err != nil {
			return err
		}
		i.KeyHost = &store.KeyHost{Name: d.Name, Key: d.Key, Certificates: d.Certificates, List: d.List, ChangedAt: at(d.ChangedAt)}
	case kindKeySet:
		d, err := parse[keySetDocument](payload)
		if err != nil {
			return err
		}
		i.KeySet = &store.KeySet{Name: d.Name, Version: d.Version, Content: d.Content, CreatedAt: at(d.CreatedAt)}
	case kindRevocationList:
		d, err := parse[revocationListDocument](payload)
		if err != nil {
			return err
		}
		i.RevocationList = &store.RevocationList{
			IssuerKey: d.IssuerKey, Issuer: d.Issuer, Number: d.Number, Entries: d.Entries, ThisUpdate: at(d.ThisUpdate), NextUpdate: at(d.NextUpdate),
			Digest: d.Digest, Issuers: d.Issuers, List: d.List, StoredAt: at(d.StoredAt),
		}
	case kindInjection:
		d, err := parse[injectionDocument](payload)
		if err != nil {
			return err
		}
		i.Injection = &store.Injection{
			ID: d.ID, Terminal: d.Terminal, Number: d.Number, State: d.State, Method: d.Method, KeySet: d.KeySet, KeySetVersion: d.KeySetVersion, Request: d.Request, Nonce: d.Nonce,
			Revision: d.Revision, Answer: d.Answer, KeyBlocks: d.KeyBlocks, Record: d.Record, Receipt: d.Receipt, Statement: d.Statement, Failure: d.Failure,
			Created: at(d.Created), ConfirmBy: at(d.ConfirmBy),
		}
		if d.Confirmed != 0 {
			i.Injection.Confirmed = at(d.Confirmed)
		}
		for _, k := range d.Keys {
			i.Injection.Keys = append(i.Injection.Keys, store.AllottedKey(k))
		}
	case kindInitialKey:
		d, err := parse[initialKeyDocument](payload)
		if err != nil {
			return err
		}
		i.InitialKey = (*store.InitialKey)(d)
	case kindRange:
		d, err := parse[rangeDocument](payload)
		if err != nil {
			return err
		}
		i.Range = (*store.RangeCounter)(d)
	case kindTerminalKey:
		d, err := parse[terminalKeyDocument](payload)
		if err != nil {
			return err
		}
		i.TerminalKey = &store.TerminalKey{
			Terminal: d.Terminal, Name: d.Name, Version: d.Version, Injection: d.Injection, Sealed: d.Sealed, NotAfter: at(d.NotAfter), CreatedAt: at(d.CreatedAt),
		}
	default:
		return wrong("an item of a kind that this keyd does not know (%d)", k)
	}
	return nil
}

func orZero(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}
