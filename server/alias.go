package server

import (
	"context"

	keydv1 "keyd/api/keyd/v1"
	"keyd/fault"
	"keyd/keys"
	"keyd/store"
)

// Aliases and tags ask no officers: they change what a key is called, and not what it may do.

// CreateAlias implements keyd.v1.KeyService.
func (b keyBinding) CreateAlias(ctx context.Context, r *keydv1.CreateAliasRequest) (*keydv1.Alias, error) {
	return b.setAlias(ctx, "CreateAlias", r.GetAliasName(), r.GetKeyId(), "")
}

// UpdateAlias implements keyd.v1.KeyService.
func (b keyBinding) UpdateAlias(ctx context.Context, r *keydv1.UpdateAliasRequest) (*keydv1.Alias, error) {
	if r.GetExpectedKeyId() == "" {
		return nil, fault.New(fault.RequestInvalid, "expected_key_id is not set")
	}
	return b.setAlias(ctx, "UpdateAlias", r.GetAliasName(), r.GetKeyId(), r.GetExpectedKeyId())
}

func (b keyBinding) setAlias(ctx context.Context, method, alias, key, expected string) (*keydv1.Alias, error) {
	named := []string{key}
	if expected != "" {
		named = append(named, expected)
	}
	if err := b.about(ctx, method, named...); err != nil {
		return nil, err
	}
	if keys.ValidName(alias) {
		b.access.Entry(ctx).Detail = "alias " + alias
	}
	if err := b.inventory.SetAlias(ctx, alias, key, expected); err != nil {
		return nil, err
	}
	return &keydv1.Alias{AliasName: alias, KeyId: key}, nil
}

// DeleteAlias implements keyd.v1.KeyService.
func (b keyBinding) DeleteAlias(ctx context.Context, r *keydv1.DeleteAliasRequest) (*keydv1.DeleteAliasResponse, error) {
	if err := b.about(ctx, "DeleteAlias", r.GetExpectedKeyId()); err != nil {
		return nil, err
	}
	if keys.ValidName(r.GetAliasName()) {
		b.access.Entry(ctx).Detail = "alias " + r.GetAliasName()
	}
	if err := b.inventory.DeleteAlias(ctx, r.GetAliasName(), r.GetExpectedKeyId()); err != nil {
		return nil, err
	}
	return &keydv1.DeleteAliasResponse{}, nil
}

// GetAlias implements keyd.v1.KeyService.
func (b keyBinding) GetAlias(ctx context.Context, r *keydv1.GetAliasRequest) (*keydv1.Alias, error) {
	if err := b.access.Authorize(ctx, keyService+"GetAlias", nil); err != nil {
		return nil, err
	}
	key, err := b.inventory.Alias(ctx, r.GetAliasName())
	if err != nil {
		return nil, err
	}
	return &keydv1.Alias{AliasName: r.GetAliasName(), KeyId: key}, nil
}

// ListAliases implements keyd.v1.KeyService.
func (b keyBinding) ListAliases(ctx context.Context, r *keydv1.ListAliasesRequest) (*keydv1.ListAliasesResponse, error) {
	size, err := pageSize(r.GetPageSize(), store.MaxList)
	if err != nil {
		return nil, err
	}
	if err := checkNameToken(r.GetPageToken()); err != nil {
		return nil, err
	}
	if err := b.access.Authorize(ctx, keyService+"ListAliases", nil); err != nil {
		return nil, err
	}
	answer := new(keydv1.ListAliasesResponse)
	if r.GetAliasOf() != "" {
		names, err := b.inventory.AliasesOf(ctx, r.GetAliasOf())
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			answer.Aliases = append(answer.Aliases, &keydv1.Alias{AliasName: name, KeyId: r.GetAliasOf()})
		}
		return answer, nil
	}
	list, err := b.inventory.Aliases(ctx, r.GetPageToken(), size)
	if err != nil {
		return nil, err
	}
	for _, a := range list {
		answer.Aliases = append(answer.Aliases, &keydv1.Alias{AliasName: a.Name, KeyId: a.Key})
	}
	if len(list) == size {
		answer.NextPageToken = list[size-1].Name
	}
	return answer, nil
}
