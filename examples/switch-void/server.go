package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	keydv1 "keyd/api/keyd/v1"
	"keyd/voidtoken"
)

// server is what terminals talk to. Refusals of keyd's are passed on as they are.
type server struct {
	keydv1.UnimplementedVoidServiceServer
	keyd     keydv1.VoidServiceClient
	keys     voidtoken.Keys
	book     *book
	reversed func() // is called when a payment is reversed, and nobody was told
}

// sufficient are the methods by which this switch lets a payment be voided.
var sufficient = [][]voidtoken.Method{
	{voidtoken.SupervisorPIN}, {voidtoken.CardholderPIN}, {voidtoken.SupervisorPIN, voidtoken.CardholderPIN}, {voidtoken.RemoteApproval}, {voidtoken.PhonePasskey}, {voidtoken.PhonePIN},
}

// terminal is who is connected, by its certificate and by no word of its own.
func (s *server) terminal(ctx context.Context) (id, merchant string, err error) {
	p, _ := peer.FromContext(ctx)
	if p != nil {
		if info, ok := p.AuthInfo.(credentials.TLSInfo); ok && len(info.State.VerifiedChains) > 0 {
			id = info.State.VerifiedChains[0][0].Subject.CommonName
		}
	}
	if merchant = s.book.terminals[id]; merchant == "" {
		return "", "", status.Error(codes.PermissionDenied, "this terminal is no merchant's")
	}
	return id, merchant, nil
}

// request is a terminal's request as keyd is told of it: another terminal's is another.
func request(terminal, id string) string {
	digest := sha256.Sum256([]byte(terminal + "\x00" + id))
	return hex.EncodeToString(digest[:])
}

// facts are what the switch knows of a payment.
func (s *server) facts(p *payment) *keydv1.PaymentFacts {
	voided := s.book.voided(p.Reference)
	return &keydv1.PaymentFacts{Merchant: p.Merchant, Amount: p.Amount, Currency: p.Currency, PaidAt: timestamppb.New(p.PaidAt), Settled: &p.Settled, Voided: &voided}
}

// payment is one of the merchant's.
func (s *server) payment(reference, merchant string) (*payment, error) {
	p, ok := s.book.payments[reference]
	if !ok || p.Merchant != merchant {
		return nil, status.Error(codes.NotFound, "there is no such payment of this merchant's")
	}
	return &p, nil
}

// own returns a void that the connected terminal asks about, and its payment: what keyd has of it has
// to be what is in the book.
func (s *server) own(ctx context.Context, void string) (*keydv1.Void, *payment, error) {
	terminal, merchant, err := s.terminal(ctx)
	if err != nil {
		return nil, nil, err
	}
	v, err := s.keyd.GetVoid(ctx, &keydv1.GetVoidRequest{VoidId: void})
	if err != nil {
		return nil, nil, err
	}
	if v.Terminal != terminal || v.Merchant != merchant {
		return nil, nil, status.Error(codes.NotFound, "there is no such void of this terminal's")
	}
	p, err := s.payment(v.Reference, merchant)
	if err != nil {
		return nil, nil, err
	}
	if v.Amount != p.Amount || v.Currency != p.Currency {
		return nil, nil, status.Error(codes.FailedPrecondition, "the void is about another amount than was paid")
	}
	return v, p, nil
}

// CreateVoid takes the reference of a payment from the terminal, and nothing else.
func (s *server) CreateVoid(ctx context.Context, r *keydv1.CreateVoidRequest) (*keydv1.CreateVoidResponse, error) {
	terminal, merchant, err := s.terminal(ctx)
	if err != nil {
		return nil, err
	}
	p, err := s.payment(r.Reference, merchant)
	if err != nil {
		return nil, err
	}
	return s.keyd.CreateVoid(ctx, &keydv1.CreateVoidRequest{
		RequestId: request(terminal, r.RequestId), Merchant: merchant, Terminal: terminal, Reference: p.Reference, Amount: p.Amount, Currency: p.Currency, Payment: s.facts(p), Slip: r.Slip,
	})
}

// ScanVoid burns a code for the merchant whose terminal it is.
func (s *server) ScanVoid(ctx context.Context, r *keydv1.ScanVoidRequest) (*keydv1.Void, error) {
	terminal, merchant, err := s.terminal(ctx)
	if err != nil {
		return nil, err
	}
	return s.keyd.ScanVoid(ctx, &keydv1.ScanVoidRequest{RequestId: request(terminal, r.RequestId), Code: r.Code, Merchant: merchant})
}

// AuthorizeVoid has PINs verified and carries out the void that they authorise.
func (s *server) AuthorizeVoid(ctx context.Context, r *keydv1.AuthorizeVoidRequest) (*keydv1.AuthorizeVoidResponse, error) {
	v, p, err := s.own(ctx, r.VoidId)
	if err != nil {
		return nil, err
	}
	for _, pin := range r.Pins {
		switch whose := pin.Whose.(type) {
		case *keydv1.VoidPinEntry_Supervisor:
			if whose.Supervisor == nil {
				return nil, status.Error(codes.InvalidArgument, "a PIN is of nobody")
			}
			whose.Supervisor.Merchant = p.Merchant
		case *keydv1.VoidPinEntry_Cardholder: // of the card that paid, whatever card the terminal has read
			if p.Card == nil {
				return nil, status.Error(codes.FailedPrecondition, "the payment was not made by a card whose PIN can be verified")
			}
			expected := &keydv1.PinMethod{Method: &keydv1.PinMethod_VisaPvv{VisaPvv: &keydv1.VisaPvv{KeyIndex: p.Card.Index, Pvv: p.Card.PVV}}}
			if p.Card.Offset != "" {
				expected = &keydv1.PinMethod{Method: &keydv1.PinMethod_Ibm3624{Ibm3624: &keydv1.Ibm3624{Offset: p.Card.Offset}}}
			}
			whose.Cardholder = &keydv1.CardholderPin{VerificationKeyId: p.Card.Key, PrimaryAccountNumber: p.Card.PAN, Expected: expected}
		}
	}
	a, err := s.keyd.AuthorizeVoid(ctx, &keydv1.AuthorizeVoidRequest{RequestId: request(v.Terminal, r.RequestId), VoidId: v.VoidId, Pins: r.Pins, Payment: s.facts(p)})
	if err != nil {
		return nil, err
	}
	return s.carryOut(ctx, v.Terminal, p, a)
}

// carryOut reverses the payment of a void with a token, tells keyd, and answers without the token.
func (s *server) carryOut(ctx context.Context, terminal string, p *payment, a *keydv1.AuthorizeVoidResponse) (*keydv1.AuthorizeVoidResponse, error) {
	if a.Token == "" {
		return a, nil
	}
	void := a.Void.GetVoidId()
	switch err := s.reverse(terminal, void, p, a.Token, time.Now()); {
	case errors.Is(err, voidtoken.ErrExpired):
		s.book.giveUp(void)
	case err != nil:
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	a.Token = ""
	if v, err := s.tell(ctx, void); err == nil { // else settle does
		a.Void = v
	}
	return a, nil
}

// reverse checks a token against the switch's own records, and reverses the payment once.
func (s *server) reverse(terminal, void string, p *payment, token string, now time.Time) error {
	_, err := voidtoken.Verify(token, s.keys, voidtoken.Expected{
		Fields:  voidtoken.Fields{Void: void, Merchant: p.Merchant, Terminal: terminal, Reference: p.Reference, Amount: p.Amount, Currency: voidtoken.Currency(p.Currency)},
		Methods: sufficient,
	}, now)
	if err != nil {
		return err
	}
	says, _, _ := strings.Cut(token, ".") // a signature can be written in two ways
	digest := sha256.Sum256([]byte(says))
	if err := s.book.reverse(p.Reference, void, hex.EncodeToString(digest[:])); err != nil {
		return err
	}
	s.reversed()
	return nil
}

// tell tells keyd what was decided about a void.
func (s *server) tell(ctx context.Context, void string) (*keydv1.Void, error) {
	e, decided := s.book.outcome(void)
	if !decided {
		return nil, errors.New("nothing was decided about this void")
	}
	v, err := s.keyd.ConfirmVoid(ctx, &keydv1.ConfirmVoidRequest{RequestId: "confirm." + void, VoidId: void, Reversed: e.Reversed})
	if err == nil {
		s.book.done(e)
	}
	return v, err
}

// settle tells keyd what it does not know yet, until ctx ends.
func (s *server) settle(ctx context.Context) {
	for ctx.Err() == nil {
		once, cancel := context.WithTimeout(ctx, time.Second)
		for _, void := range s.book.untold() {
			_, _ = s.tell(once, void) // or in a second
		}
		<-once.Done()
		cancel()
	}
}

// CancelVoid gives a void up that is not authorised.
func (s *server) CancelVoid(ctx context.Context, r *keydv1.CancelVoidRequest) (*keydv1.Void, error) {
	v, _, err := s.own(ctx, r.VoidId)
	if err != nil {
		return nil, err
	}
	return s.keyd.CancelVoid(ctx, &keydv1.CancelVoidRequest{RequestId: request(v.Terminal, r.RequestId), VoidId: v.VoidId})
}

// GetVoid shows a terminal its void.
func (s *server) GetVoid(ctx context.Context, r *keydv1.GetVoidRequest) (*keydv1.Void, error) {
	v, _, err := s.own(ctx, r.VoidId)
	return v, err
}

// WatchVoid passes on what keyd says of a terminal's void. One that was authorised elsewhere, on a
// phone, say, is carried out here: the terminal has nothing to do but wait.
func (s *server) WatchVoid(r *keydv1.WatchVoidRequest, out grpc.ServerStreamingServer[keydv1.Void]) error {
	ctx := out.Context()
	_, p, err := s.own(ctx, r.VoidId)
	if err != nil {
		return err
	}
	in, err := s.keyd.WatchVoid(ctx, r)
	if err != nil {
		return err
	}
	for {
		v, err := in.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil && v.State == keydv1.Void_AUTHORIZED {
			err = s.collect(ctx, v, p)
		}
		if err == nil {
			err = out.Send(v)
		}
		if err != nil {
			return err
		}
	}
}

// collect carries out a void whose token the switch has not seen. What comes of it is seen by who watches.
func (s *server) collect(ctx context.Context, v *keydv1.Void, p *payment) error {
	if _, decided := s.book.outcome(v.VoidId); decided {
		return nil
	}
	a, err := s.keyd.GetVoidToken(ctx, &keydv1.GetVoidTokenRequest{VoidId: v.VoidId})
	if err != nil {
		return err // the terminal watches again
	}
	_, err = s.carryOut(ctx, v.Terminal, p, a)
	return err
}
