package main

import (
	"context"
	"encoding/hex"
	"sync"
	"time"

	"google.golang.org/grpc"

	keydv1 "keyd/api/keyd/v1"
)

// testKeys are published keys in the form of keyd dev --keys.
var testKeys = []map[string]string{
	{"name": "bench-bdk-tdes", "usage": "B0", "algorithm": "T", "mode_of_use": "X", "value": "0123456789ABCDEFFEDCBA9876543210"},
	{"name": "bench-bdk-aes", "usage": "B0", "algorithm": "A", "mode_of_use": "X", "value": "FEDCBA9876543210F1F1F1F1F1F1F1F1"},
	{"name": "bench-in", "usage": "P0", "algorithm": "T", "mode_of_use": "D", "value": "DDDDEEEEFFFFAAAABBBBCCCCDDDDEEEE"},
	{"name": "bench-out", "usage": "P0", "algorithm": "T", "mode_of_use": "E", "value": "AABBCCDDEEFF00112233445566778899"},
	{"name": "bench-pvk", "usage": "V2", "algorithm": "T", "mode_of_use": "V", "value": "0123456789ABCDEFFEDCBA9876543210"},
}

// tokenCalls is what an operation asks of the token.
type tokenCalls struct{ tdes, aes, derive int }

type operation struct {
	name   string
	calls  tokenCalls
	unary  driver
	stream driver // nil if there is none
}

var (
	zoneOut  = &keydv1.PinKey{KeyId: "bench-out", Format: keydv1.PinBlockFormat_ISO_FORMAT_0}
	zoneIn   = &keydv1.PinKey{KeyId: "bench-in", Format: keydv1.PinBlockFormat_ISO_FORMAT_0}
	tdesIn   = &keydv1.PinKey{KeyId: "bench-bdk-tdes", Format: keydv1.PinBlockFormat_ISO_FORMAT_0, Dukpt: &keydv1.DukptAttributes{KeySerialNumber: unhex("FFFF9876543210E00001")}}
	aesIn    = &keydv1.PinKey{KeyId: "bench-bdk-aes", Format: keydv1.PinBlockFormat_ISO_FORMAT_4, Dukpt: &keydv1.DukptAttributes{KeySerialNumber: unhex("123456789012345600000001")}}
	fromZone = &keydv1.TranslatePinDataRequest{Incoming: zoneIn, Outgoing: zoneOut, PrimaryAccountNumber: "5432101234567890", EncryptedPinBlock: unhex("7F381DBF9F6906C4")}
	fromTDES = &keydv1.TranslatePinDataRequest{Incoming: tdesIn, Outgoing: zoneOut, PrimaryAccountNumber: "4012345678909", EncryptedPinBlock: unhex("1B9C1845EB993A7A")}
	fromAES  = &keydv1.TranslatePinDataRequest{Incoming: aesIn, Outgoing: zoneOut, PrimaryAccountNumber: "4111111111111111", EncryptedPinBlock: unhex("A912150391AB65A67E52883D81CE2D15")}
	verify   = &keydv1.VerifyPinDataRequest{Incoming: zoneIn, VerificationKeyId: "bench-pvk", PrimaryAccountNumber: "5432101234567890", EncryptedPinBlock: unhex("7F381DBF9F6906C4"),
		Expected: &keydv1.PinMethod{Method: &keydv1.PinMethod_VisaPvv{VisaPvv: &keydv1.VisaPvv{KeyIndex: 1, Pvv: "6776"}}}}
)

var operations = []operation{
	{"TDES DUKPT → zone", tokenCalls{tdes: 3}, translate(fromTDES), stream(fromTDES)},
	{"AES DUKPT → zone", tokenCalls{derive: 3, aes: 2, tdes: 1}, translate(fromAES), stream(fromAES)},
	{"zone → zone", tokenCalls{tdes: 2}, translate(fromZone), stream(fromZone)},
	{"verify (PVV)", tokenCalls{tdes: 2}, unary(func(ctx context.Context, c keydv1.PinServiceClient) error {
		_, err := c.VerifyPinData(ctx, verify)
		return err
	}), nil},
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err) // a constant of this file
	}
	return b
}

func translate(r *keydv1.TranslatePinDataRequest) driver {
	return unary(func(ctx context.Context, c keydv1.PinServiceClient) error {
		_, err := c.TranslatePinData(ctx, r)
		return err
	})
}

// unary keeps calls under way, one to a goroutine.
func unary(call func(context.Context, keydv1.PinServiceClient) error) driver {
	return func(ctx context.Context, conn *grpc.ClientConn, underWay int, done func(time.Duration)) error {
		client := keydv1.NewPinServiceClient(conn)
		var failed error
		var once sync.Once
		var wait sync.WaitGroup
		for range underWay {
			wait.Go(func() {
				for ctx.Err() == nil {
					began := time.Now()
					if err := call(context.WithoutCancel(ctx), client); err != nil {
						once.Do(func() { failed = err })
						return
					}
					done(time.Since(began))
				}
			})
		}
		wait.Wait()
		return failed
	}
}

// stream keeps items under way on one stream.
func stream(r *keydv1.TranslatePinDataRequest) driver {
	return func(ctx context.Context, conn *grpc.ClientConn, underWay int, done func(time.Duration)) error {
		s, err := keydv1.NewPinServiceClient(conn).TranslatePinDataStream(context.WithoutCancel(ctx))
		if err != nil {
			return err
		}
		began := make([]time.Time, underWay) // by correlation_id
		send := func(id uint64) error {
			began[id] = time.Now()
			return s.Send(&keydv1.TranslatePinDataStreamRequest{CorrelationId: id, Request: r})
		}
		for id := range underWay {
			if err := send(uint64(id)); err != nil {
				return err
			}
		}
		for open := underWay; open > 0; {
			answer, err := s.Recv()
			if err != nil {
				return err
			}
			if e := answer.GetError(); e != nil {
				return itemError(e.GetMessage())
			}
			done(time.Since(began[answer.CorrelationId]))
			if ctx.Err() != nil {
				open--
				continue
			}
			if err := send(answer.CorrelationId); err != nil {
				return err
			}
		}
		return s.CloseSend()
	}
}

type itemError string

func (e itemError) Error() string { return string(e) }
