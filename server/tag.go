package server

import (
	"context"

	keydv1 "keyd/api/keyd/v1"
)

// TagResource implements keyd.v1.KeyService.
func (b keyBinding) TagResource(ctx context.Context, r *keydv1.TagResourceRequest) (*keydv1.TagResourceResponse, error) {
	if err := b.about(ctx, "TagResource", r.GetKeyId()); err != nil {
		return nil, err
	}
	if err := b.inventory.SetTags(ctx, r.GetKeyId(), r.GetTags()); err != nil {
		return nil, err
	}
	return &keydv1.TagResourceResponse{}, nil
}

// UntagResource implements keyd.v1.KeyService.
func (b keyBinding) UntagResource(ctx context.Context, r *keydv1.UntagResourceRequest) (*keydv1.UntagResourceResponse, error) {
	if err := b.about(ctx, "UntagResource", r.GetKeyId()); err != nil {
		return nil, err
	}
	if err := b.inventory.DeleteTags(ctx, r.GetKeyId(), r.GetTagKeys()); err != nil {
		return nil, err
	}
	return &keydv1.UntagResourceResponse{}, nil
}

// ListTagsForResource implements keyd.v1.KeyService.
func (b keyBinding) ListTagsForResource(ctx context.Context, r *keydv1.ListTagsForResourceRequest) (*keydv1.ListTagsForResourceResponse, error) {
	if err := b.about(ctx, "ListTagsForResource", r.GetKeyId()); err != nil {
		return nil, err
	}
	tags, err := b.inventory.Tags(ctx, r.GetKeyId())
	if err != nil {
		return nil, err
	}
	return &keydv1.ListTagsForResourceResponse{Tags: tags}, nil
}
