package server

import (
	"context"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	keydv1 "keyd/api/keyd/v1"
	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/keys"
	"keyd/keyuse"
	"keyd/policies"
	"keyd/store"
)

// keyBinding binds keyd.v1.KeyService to package keys.
type keyBinding struct {
	keydv1.UnimplementedKeyServiceServer
	access    gate
	officers  *keys.Ceremonies
	inventory *keys.Inventory
}

const keyService = "KeyService/"

func (b keyBinding) change(ctx context.Context, method string, r *keydv1.KeyChangeRequest, kinds ...ceremony.Kind) (*keydv1.Ceremony, error) {
	return begin(ctx, b.access, b.officers, keyService+method, r.GetDefinition(), r.GetStatement(), kinds...)
}

// CreateKey implements keyd.v1.KeyService.
func (b keyBinding) CreateKey(ctx context.Context, r *keydv1.KeyChangeRequest) (*keydv1.Ceremony, error) {
	return b.change(ctx, "CreateKey", r, ceremony.Create, ceremony.Load)
}

// ImportKey implements keyd.v1.KeyService.
func (b keyBinding) ImportKey(ctx context.Context, r *keydv1.KeyChangeRequest) (*keydv1.Ceremony, error) {
	return b.change(ctx, "ImportKey", r, ceremony.Import)
}

// ExportKey implements keyd.v1.KeyService.
func (b keyBinding) ExportKey(ctx context.Context, r *keydv1.KeyChangeRequest) (*keydv1.Ceremony, error) {
	return b.change(ctx, "ExportKey", r, ceremony.Export)
}

// AttachKey implements keyd.v1.KeyService.
func (b keyBinding) AttachKey(ctx context.Context, r *keydv1.KeyChangeRequest) (*keydv1.Ceremony, error) {
	return b.change(ctx, "AttachKey", r, ceremony.Attach)
}

// StopKeyUsage implements keyd.v1.KeyService.
func (b keyBinding) StopKeyUsage(ctx context.Context, r *keydv1.KeyChangeRequest) (*keydv1.Ceremony, error) {
	return b.change(ctx, "StopKeyUsage", r, ceremony.Stop)
}

// StartKeyUsage implements keyd.v1.KeyService.
func (b keyBinding) StartKeyUsage(ctx context.Context, r *keydv1.KeyChangeRequest) (*keydv1.Ceremony, error) {
	return b.change(ctx, "StartKeyUsage", r, ceremony.Start)
}

// DeleteKey implements keyd.v1.KeyService.
func (b keyBinding) DeleteKey(ctx context.Context, r *keydv1.KeyChangeRequest) (*keydv1.Ceremony, error) {
	return b.change(ctx, "DeleteKey", r, ceremony.Delete)
}

// RestoreKey implements keyd.v1.KeyService.
func (b keyBinding) RestoreKey(ctx context.Context, r *keydv1.KeyChangeRequest) (*keydv1.Ceremony, error) {
	return b.change(ctx, "RestoreKey", r, ceremony.Restore)
}

// about records the keys of a request, and asks the policy by what they are. A caller whom
// it denies does not learn whether there are such keys.
func (b keyBinding) about(ctx context.Context, method string, keyIDs ...string) error {
	var asked []policies.Key
	var missing error
	for _, id := range keyIDs {
		keyuse.Record(b.access.Entry(ctx), keys.NameIn(id), nil)
		if !keys.ValidReference(id) {
			return fault.New(fault.RequestInvalid, "key_id is the name of a key, NAME?version=N or an alias")
		}
		k := policies.Key{Name: keys.NameIn(id)}
		found, err := b.inventory.Resolve(ctx, id)
		if err != nil {
			missing = err
		} else {
			h := found.Header
			k = policies.Key{Name: found.Name, Version: found.Version, Usage: h.Usage, Algorithm: h.Algorithm, Mode: h.Mode, Direction: h.Direction, Peers: h.Peers}
		}
		asked = append(asked, k)
	}
	if err := b.access.Authorize(ctx, keyService+method, asked); err != nil {
		return err
	}
	return missing
}

// GetKey implements keyd.v1.KeyService.
func (b keyBinding) GetKey(ctx context.Context, r *keydv1.GetKeyRequest) (*keydv1.Key, error) {
	if err := b.about(ctx, "GetKey", r.GetKeyId()); err != nil {
		return nil, err
	}
	d, err := b.officers.Details(ctx, r.GetKeyId())
	if err != nil {
		return nil, err
	}
	return keyMessage(d), nil
}

// GetCertificateSigningRequest implements keyd.v1.KeyService.
func (b keyBinding) GetCertificateSigningRequest(ctx context.Context, r *keydv1.GetCertificateSigningRequestRequest) (*keydv1.GetCertificateSigningRequestResponse, error) {
	subject := r.GetCertificateSubject()
	if subject.GetCommonName() == "" {
		return nil, fault.New(fault.RequestInvalid, "certificate_subject.common_name is not set")
	}
	if country := subject.GetCountry(); country != "" && (len(country) != 2 || strings.Trim(country, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "") {
		return nil, fault.New(fault.RequestInvalid, "certificate_subject.country is two upper-case letters (ISO 3166-1)")
	}
	if err := b.about(ctx, "GetCertificateSigningRequest", r.GetKeyId()); err != nil {
		return nil, err
	}
	der, err := b.officers.CertificateRequest(ctx, r.GetKeyId(), hsm.CertificateSubject{
		CommonName: subject.GetCommonName(), Organization: subject.GetOrganization(), OrganizationalUnit: subject.GetOrganizationalUnit(),
		Country: subject.GetCountry(), Province: subject.GetStateOrProvince(), Locality: subject.GetCity(), DNSNames: subject.GetDnsNames(),
	})
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	return &keydv1.GetCertificateSigningRequestResponse{CertificateSigningRequest: string(text)}, nil
}

// ListKeys implements keyd.v1.KeyService.
func (b keyBinding) ListKeys(ctx context.Context, r *keydv1.ListKeysRequest) (*keydv1.ListKeysResponse, error) {
	size, err := pageSize(r.GetPageSize(), store.MaxList)
	if err != nil {
		return nil, err
	}
	if err := checkNameToken(r.GetPageToken()); err != nil {
		return nil, err
	}
	if _, known := keydv1.Key_State_name[int32(r.GetState())]; !known {
		return nil, fault.New(fault.RequestInvalid, "state is none of a key")
	}
	if err := b.access.Authorize(ctx, keyService+"ListKeys", nil); err != nil {
		return nil, err
	}
	filter := store.Filter{NamePrefix: r.GetNamePrefix(), Tag: r.GetTagKey(), TagValue: r.GetTagValue()}
	found, next, err := b.officers.Find(ctx, filter, keys.LifeState(r.GetState()), r.GetUsage(), r.GetPageToken(), size)
	if err != nil {
		return nil, err
	}
	answer := &keydv1.ListKeysResponse{NextPageToken: next}
	for _, d := range found {
		answer.Keys = append(answer.Keys, keyMessage(d))
	}
	return answer, nil
}

// ListKeyVersions implements keyd.v1.KeyService.
func (b keyBinding) ListKeyVersions(ctx context.Context, r *keydv1.ListKeyVersionsRequest) (*keydv1.ListKeyVersionsResponse, error) {
	if err := b.about(ctx, "ListKeyVersions", r.GetKeyId()); err != nil {
		return nil, err
	}
	versions, err := b.officers.Versions(ctx, r.GetKeyId())
	if err != nil {
		return nil, err
	}
	answer := new(keydv1.ListKeyVersionsResponse)
	for _, d := range versions {
		answer.Keys = append(answer.Keys, keyMessage(d))
	}
	return answer, nil
}

func keyMessage(d keys.Details) *keydv1.Key {
	h := d.Header
	m := &keydv1.Key{
		KeyId: d.Name, Version: d.Version, State: keydv1.Key_State(d.Life),
		Usage: h.Usage, Algorithm: h.Algorithm, Length: uint32(h.Length), ModeOfUse: h.Mode, Exportability: h.Exportability,
		KeyCheckValue: h.CheckValue, Direction: h.Direction, Peers: h.Peers, DataModes: h.DataModes, MacLength: uint32(h.MACLength),
		Ksn: h.KSNCheck, AllowChange: h.AllowChange, InjectionHosts: h.InjectionHosts, PinKind: h.PINKind, KeyCustody: h.Custody, Generation: h.Generation,
		NotBefore: seconds(h.NotBefore), NotAfter: seconds(h.NotAfter), CreatedAt: moment(d.Created),
		PublicKey: h.Public, TokenObject: h.Object,
		LastUsedAt: moment(d.LastUsed), UseCount: d.Count, Aliases: d.Aliases, Tags: d.Tags, Custodians: d.Officers, TestKey: d.Test,
	}
	for _, f := range h.Formats {
		m.Formats = append(m.Formats, fmt.Sprintf("ISO_FORMAT_%d", uint8(f)))
	}
	for _, o := range h.Blocks {
		m.OptionalBlocks = append(m.OptionalBlocks, &keydv1.OptionalBlock{Id: o.ID, Data: o.Data})
	}
	if r := h.IBM3624; r != nil {
		m.Ibm3624 = &keydv1.Ibm3624Rule{
			DecimalizationTable: r.DecimalizationTable, ValidationStart: uint32(r.Start), ValidationLength: uint32(r.Length), ValidationPad: r.Pad,
		}
	}
	switch d.Life {
	case keys.StateSuperseded:
		m.SupersededAt = moment(d.Until)
	case keys.StateDeletePending, keys.StateDeleted:
		m.DeleteAt = moment(d.Until)
	}
	return m
}

func seconds(unix int64) *timestamppb.Timestamp {
	if unix == 0 {
		return nil
	}
	return timestamppb.New(time.Unix(unix, 0))
}

func moment(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
