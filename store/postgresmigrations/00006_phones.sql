-- +goose Up

ALTER TABLE pin_records DROP CONSTRAINT pin_records_kind_check;
ALTER TABLE pin_records ADD CONSTRAINT pin_records_kind_check CHECK (kind IN ('SUPERVISOR', 'CARDHOLDER', 'PASSKEY'));
CREATE INDEX pin_records_by_approval ON pin_records (approval) WHERE length(approval) > 0;

ALTER TABLE voids ADD COLUMN paid_at bigint NOT NULL DEFAULT 0;
