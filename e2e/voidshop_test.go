package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	keydv1 "keyd/api/keyd/v1"
	"keyd/voidtoken"
)

// rivals are two different requests for the same step, at once; their answers and reasons.
func rivals[A any](call func(rival int) (A, string)) (answers [2]A, reasons [2]string) {
	var both sync.WaitGroup
	for i := range answers {
		both.Go(func() { answers[i], reasons[i] = call(i) })
	}
	both.Wait()
	return answers, reasons
}

// shopVoids takes a payment through a void.
func (c *voidChaos) shopVoids(client keydv1.VoidServiceClient, random *rand.Rand, shop, n int) {
	const amount = 12300
	reference := fmt.Sprintf("pay-%d-%d", shop, n)
	made, reasons := rivals(func(i int) (*keydv1.CreateVoidResponse, string) {
		r := creation(fmt.Sprintf("create-%s-%d", reference, i), "m-17", reference, amount)
		return twice(c, "create "+r.RequestId, func(ctx context.Context) (*keydv1.CreateVoidResponse, error) { return client.CreateVoid(ctx, r) })
	})
	var void *keydv1.CreateVoidResponse
	for i, a := range made {
		switch {
		case reasons[i] != "OK":
			c.Errorf("create %s: %s", reference, reasons[i])
			return
		case a.Void.VoidId == "" && a.Void.Refusal != "ANOTHER_VOID":
			c.Errorf("create %s: %s", reference, a.Void.Refusal)
		case a.Void.VoidId == "":
		case void != nil:
			c.Errorf("%s has two voids", reference)
			return
		default:
			void = a
		}
	}
	if void == nil {
		c.Errorf("%s has no void", reference)
		return
	}
	id := void.Void.VoidId
	out := &voidOutcome{fields: fieldsOf(id, reference, amount), state: keydv1.Void_CREATED}
	c.mu.Lock()
	c.outcomes[id] = out
	c.mu.Unlock()
	var watching sync.WaitGroup
	defer watching.Wait()
	if random.IntN(2) == 0 {
		watching.Go(func() { c.watch(client, id) })
	}
	if random.IntN(8) == 0 {
		c.ends(out, id, keydv1.Void_CANCELLED, "CANCELLED", func(ctx context.Context, request string, _ int) (*keydv1.Void, error) {
			return client.CancelVoid(ctx, &keydv1.CancelVoidRequest{RequestId: request, VoidId: id})
		})
		return
	}
	scans, reasons := rivals(func(i int) (*keydv1.Void, string) {
		r := &keydv1.ScanVoidRequest{RequestId: fmt.Sprintf("scan-%s-%d", reference, i), Code: void.Code, Merchant: "m-17"}
		return twice(c, "scan "+r.RequestId, func(ctx context.Context) (*keydv1.Void, error) { return client.ScanVoid(ctx, r) })
	})
	if won := count(reasons[:], "OK"); won != 1 || count(reasons[:], "VOID_CODE_REFUSED") != 1 {
		c.Errorf("scan %s: %v, %v", reference, reasons, scans)
		return
	}
	early := &keydv1.ConfirmVoidRequest{RequestId: "early-" + reference, VoidId: id, Reversed: true}
	if v, why := twice(c, "early "+reference, func(ctx context.Context) (*keydv1.Void, error) { return client.ConfirmVoid(ctx, early) }); why != "OK" || v.State != keydv1.Void_SCANNED {
		c.Errorf("confirmed before it is authorised: %s, %v", why, v)
	}
	c.authorizes(client, random, out, shop, n)
	if out.token == "" || random.IntN(8) == 0 { // some stay as they are
		return
	}
	c.ends(out, id, keydv1.Void_CONFIRMED, "CONFIRMED", func(ctx context.Context, request string, rival int) (*keydv1.Void, error) {
		return client.ConfirmVoid(ctx, &keydv1.ConfirmVoidRequest{RequestId: request, VoidId: id, Reversed: rival == 0})
	})
}

// authorizes has two requests ask for one void's authorisation.
func (c *voidChaos) authorizes(client keydv1.VoidServiceClient, random *rand.Rand, out *voidOutcome, shop, n int) {
	id, digest, amount := out.fields.Void, digestFor(c, out.fields), out.fields.Amount
	subject := supervisorOf(fmt.Sprintf("shop-%d", shop))
	remote := random.IntN(4) == 0
	answers, reasons := rivals(func(i int) (*keydv1.AuthorizeVoidResponse, string) {
		request := fmt.Sprintf("authorize-%s-%d", out.fields.Reference, i)
		if remote && i == 1 {
			r := &keydv1.ApproveVoidRequest{RequestId: request, VoidId: id, Approval: c.anna(digest), Payment: paid(amount)}
			return twice(c, "approve "+request, func(ctx context.Context) (*keydv1.AuthorizeVoidResponse, error) { return client.ApproveVoid(ctx, r) })
		}
		r := authorization(id, request, amount, whose(subject, padOf(c, subject, c.pin, uint32(2*(n*killShops+shop)+i+1)).bound(1, digest)))
		return twice(c, "authorize "+request, func(ctx context.Context) (*keydv1.AuthorizeVoidResponse, error) { return client.AuthorizeVoid(ctx, r) })
	})
	for i, a := range answers {
		switch {
		case reasons[i] != "OK":
			c.Errorf("authorize %s: %s", out.fields.Reference, reasons[i])
		case a.Verified != (a.Token != "") || a.Verified != (a.Void.Result == "AUTHORIZED"):
			c.Errorf("authorize %s: verified %t, with a token %t, %s", out.fields.Reference, a.Verified, a.Token != "", a.Void.Result)
		case a.Token == "":
		case out.token != "":
			c.Errorf("%s has two tokens", out.fields.Reference)
		default:
			out.token, out.state = a.Token, keydv1.Void_AUTHORIZED
			want := voidtoken.Expected{Fields: out.fields, Methods: [][]voidtoken.Method{{voidtoken.SupervisorPIN}, {voidtoken.RemoteApproval}}}
			if _, err := voidtoken.Verify(a.Token, c.tokens, want, time.Now()); err != nil {
				c.Errorf("the token of %s: %v", out.fields.Reference, err)
			}
		}
	}
	if out.token == "" { // three tries of a PIN were lost with what was killed
		out.state = answers[0].GetVoid().GetState()
	}
}

// ends has two requests end a void, of which one has an effect.
func (c *voidChaos) ends(out *voidOutcome, id string, state keydv1.Void_State, result string, end func(ctx context.Context, request string, rival int) (*keydv1.Void, error)) {
	answers, reasons := rivals(func(i int) (*keydv1.Void, string) {
		request := fmt.Sprintf("end-%s-%d", out.fields.Reference, i)
		return twice(c, "end "+request, func(ctx context.Context) (*keydv1.Void, error) { return end(ctx, request, i) })
	})
	won := 0
	for i, v := range answers {
		switch {
		case reasons[i] != "OK":
			c.Errorf("end of %s: %s", id, reasons[i])
		case v.Result == result || v.Result == "NOT_REVERSED":
			won, out.state = won+1, v.State
		case v.Result != "OVER":
			c.Errorf("end of %s: %s", id, v.Result)
		}
	}
	if won != 1 || out.state != state && out.state != keydv1.Void_DECLINED {
		c.Errorf("%d of 2 requests have ended %s, which is %s", won, id, out.state)
	}
}

// watch follows a void, again where the stream breaks: its version never falls, and what is over
// stays so.
func (c *voidChaos) watch(client keydv1.VoidServiceClient, id string) {
	version := uint64(0)
	for !c.stopped() {
		ctx, cancel := context.WithTimeout(c.Context(), 300*time.Millisecond)
		stream, err := client.WatchVoid(ctx, &keydv1.WatchVoidRequest{VoidId: id})
		for err == nil {
			var v *keydv1.Void
			if v, err = stream.Recv(); err != nil {
				break
			}
			if v.Version < version {
				c.Errorf("void %s goes from version %d to %d", id, version, v.Version)
			}
			if version = v.Version; v.State > keydv1.Void_AUTHORIZED {
				cancel()
				return
			}
		}
		cancel()
		if why := reason(err); ctx.Err() != nil { // what is not over is looked at for a while
			return
		} else if why != "MODULE_UNAVAILABLE" && why != "STORE_UNAVAILABLE" {
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// crowd makes voids for a merchant that may not have many a day.
func (c *voidChaos) crowd(client keydv1.VoidServiceClient, shop, n int) {
	r := creation(fmt.Sprintf("crowd-%d-%d", shop, n), "m-day", fmt.Sprintf("day-%d-%d", shop, n), 100)
	a, err := settled(c.Context(), func(string) { c.interrupts.Add(1) }, func(ctx context.Context) (*keydv1.CreateVoidResponse, error) { return client.CreateVoid(ctx, r) })
	switch {
	case err != nil:
		c.Errorf("crowd: %v", err)
	case a.Void.VoidId != "":
		c.ofMerchant.Add(1)
	case a.Void.Refusal != "TOO_MANY_TODAY":
		c.Errorf("crowd: %s", a.Void.Refusal)
	}
}

// checkAll compares what clients were told with what stands in the database.
func (c *voidChaos) checkAll() {
	client := keydv1.NewVoidServiceClient(c.service.connect(c.service.tls("switch")))
	list := func(merchant string) (all []*keydv1.Void) {
		for page := ""; ; {
			a, err := settled(c.Context(), func(string) {}, func(ctx context.Context) (*keydv1.ListVoidsResponse, error) {
				return client.ListVoids(ctx, &keydv1.ListVoidsRequest{Merchant: merchant, PageSize: 100, PageToken: page})
			})
			if err != nil {
				c.Fatal(err)
			}
			if all, page = append(all, a.Voids...), a.NextPageToken; page == "" {
				return all
			}
		}
	}
	states, authorized := map[string]int{}, 0
	all := list("m-17")
	for _, v := range all {
		out := c.outcomes[v.VoidId]
		if out == nil {
			c.Errorf("void %s of %s was told to nobody", v.VoidId, v.Reference)
			continue
		}
		if v.State != out.state || (len(v.Authorizations) > 0) != (out.token != "") {
			c.Errorf("void %s is %s with %d authorisations, and clients were told %s, with a token %t", v.VoidId, v.State, len(v.Authorizations), out.state, out.token != "")
		}
		if states[v.State.String()]++; out.token != "" {
			authorized++
		}
	}
	if len(all) != len(c.outcomes) || authorized == 0 {
		c.Errorf("%d voids are there, %d were told, %d authorised", len(all), len(c.outcomes), authorized)
	}
	if n := len(list("m-day")); n != killPerDay || int64(n) != c.ofMerchant.Load() {
		c.Errorf("m-day has %d voids, %d were told; want %d", n, c.ofMerchant.Load(), killPerDay)
	}
	c.Logf("voids: %v", states)
}

func creation(request, merchant, reference string, amount int64) *keydv1.CreateVoidRequest {
	facts := paid(amount)
	facts.Merchant = merchant
	return &keydv1.CreateVoidRequest{RequestId: request, Merchant: merchant, Terminal: "t-1", Reference: reference, Amount: amount, Currency: int32(voidtoken.CNY), Payment: facts}
}

func count(list []string, what string) (n int) {
	for _, s := range list {
		if s == what {
			n++
		}
	}
	return n
}
