package register_test

import (
	"bytes"
	"crypto/rand"
	"testing"
	"time"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm/module/internal/register"
	"keyd/hsm/module/internal/token"
)

// fleet is hosts whose tokens have the same master keys; all but the first have joined it.
func fleet(t *testing.T, n int) (hosts []*host, modules []*register.Register, joined []byte) {
	t.Helper()
	secret := []byte(rand.Text() + rand.Text())
	for range n {
		h := hostOf(t, secret)
		m := h.module()
		h.must(h.load(m, h.first))
		hosts, modules = append(hosts, h), append(modules, m)
	}
	joined = hosts[0].propose(modules[0], nil)
	hosts[0].must(hosts[0].commit(modules[0], joined))
	for i := 1; i < n; i++ {
		hosts[i].must(hosts[i].follow(modules[i], joined, hosts[i].linkTo(modules[i], joined)))
		hosts[i].inForce(modules[i], joined)
	}
	return hosts, modules, joined
}

func (h *host) follow(r *register.Register, sealed []byte, links ...[]byte) error {
	return h.token.Do(func(s *token.Session) error {
		return r.Follow(s, sealed, links, func(*ceremony.Epoch) error { return nil })
	})
}

// linkTo makes the link with which this host's token joins others.
func (h *host) linkTo(r *register.Register, document []byte) (link []byte) {
	h.Helper()
	e, err := r.Current()
	h.must(err)
	h.do(func(s *token.Session) (err error) {
		link, err = r.LinkTo(s, e, document, h.now.Unix()+3600)
		return err
	})
	return link
}

// next has a host pin the epoch that follows, and returns it with the link to it.
func (h *host) next(r *register.Register, id string) (sealed, link []byte) {
	h.Helper()
	sealed = h.propose(r, func(e *ceremony.Epoch) { e.Done = append(e.Done, ceremony.Done{ID: id, Expires: 1}) })
	link, err := h.link(r, sealed)
	h.must(err)
	return sealed, link
}

// A token that was away follows all that the others have pinned meanwhile, at once, however
// long ago that was.
func TestATokenFollowsTheOthers(t *testing.T) {
	hosts, modules, _ := fleet(t, 3)
	var links [][]byte
	var last []byte
	for i := range 20 { // the first two take turns
		at := i % 2
		sealed, link := hosts[at].next(modules[at], string(rune('a'+i)))
		hosts[1-at].must(hosts[1-at].follow(modules[1-at], sealed, link))
		hosts[1-at].inForce(modules[1-at], sealed)
		links, last = append(links, link), sealed
	}
	hosts[2].now = hosts[2].now.Add(2 * ceremony.MaxValidFor * time.Second)
	hosts[2].must(hosts[2].follow(modules[2], last, links...))
	hosts[2].inForce(modules[2], last)
	hosts[2].must(hosts[2].follow(modules[2], last)) // it has it already
	if pins := hosts[2].pins(); len(pins) != 1 {
		t.Errorf("%d pins are left", len(pins))
	}
	again := hosts[2].module()
	hosts[2].must(hosts[2].load(again, last))
	hosts[2].inForce(again, last)
}

// Nothing but an unbroken line of what was pinned moves a token on, and nothing moves it back.
func TestATokenFollowsNoOtherLine(t *testing.T) {
	hosts, modules, joined := fleet(t, 3)
	a, b, c := hosts[0], hosts[1], hosts[2]
	proposed := a.propose(modules[0], func(e *ceremony.Epoch) { e.Done = []ceremony.Done{{ID: "withdrawn", Expires: 1}} })
	second, link2 := a.next(modules[0], "second")
	third, link3 := a.next(modules[0], "third")
	fork, forked := c.next(modules[2], "fork") // by a front that tells the others nothing
	other, othersModules, _ := fleet(t, 2)
	foreign, foreignLink := other[0].next(othersModules[0], "foreign")
	altered := func(at int) []byte { l := bytes.Clone(link2); l[at] ^= 1; return l }
	for name, try := range map[string]struct {
		sealed []byte
		links  [][]byte
		reason fault.Reason
	}{
		"without a link":              {second, nil, fault.EpochStale},
		"a link is missing":           {third, [][]byte{link3}, fault.EpochStale},
		"the last link is missing":    {third, [][]byte{link2}, fault.EpochStale},
		"one link too many":           {second, [][]byte{link2, link3}, fault.EpochStale},
		"links in another order":      {third, [][]byte{link3, link2}, fault.EpochStale},
		"a link twice":                {second, [][]byte{link2, link2}, fault.EpochStale},
		"what was only proposed":      {proposed, [][]byte{link2}, fault.EpochStale},
		"another's link before it":    {second, [][]byte{altered(0)}, fault.EpochInvalid},
		"another version in the link": {second, [][]byte{altered(39)}, fault.EpochInvalid},
		"another end of the link":     {proposed, [][]byte{altered(40)}, fault.EpochInvalid},
		"another generation":          {second, [][]byte{altered(75)}, fault.EpochInvalid},
		"for longer":                  {second, [][]byte{altered(80)}, fault.EpochInvalid},
		"another code":                {second, [][]byte{altered(len(link2) - 1)}, fault.EpochInvalid},
		"half a link":                 {second, [][]byte{link2[:50]}, fault.EpochInvalid},
		"an empty link":               {second, [][]byte{nil}, fault.EpochInvalid},
		"a link that goes on":         {second, [][]byte{append(bytes.Clone(link2), 0)}, fault.EpochInvalid},
		"links without end":           {second, slicesOf(link2, register.MaxLinks+1), fault.EpochInvalid},
		"other master keys":           {foreign, [][]byte{foreignLink}, fault.EpochInvalid},
		"other master keys' link":     {second, [][]byte{foreignLink}, fault.EpochInvalid},
		"the first epoch of another":  {a.first, nil, fault.EpochStale},
		"back to its own first":       {b.first, nil, fault.EpochStale},
	} {
		if err := b.follow(modules[1], try.sealed, try.links...); fault.Of(err).Reason != try.reason {
			t.Errorf("%s: %v, want %v", name, err, try.reason)
		}
		b.inForce(modules[1], joined)
	}
	b.must(b.follow(modules[1], third, link2, link3))
	for name, try := range map[string]func() error{
		"back":            func() error { return b.follow(modules[1], second, link2) },
		"back by no link": func() error { return b.follow(modules[1], joined) },
		"to the fork":     func() error { return b.follow(modules[1], fork, forked) },
		"from the fork":   func() error { return c.follow(modules[2], third, link2, link3) },
	} {
		refused(t, try(), fault.EpochStale)
		if t.Failed() {
			t.Fatal(name)
		}
	}
	b.inForce(modules[1], third)
	c.inForce(modules[2], fork)
}

func slicesOf(link []byte, n int) (links [][]byte) {
	for range n {
		links = append(links, link)
	}
	return links
}

// The link with which a token joins is of use to no other, and to it once.
func TestAJoiningLinkIsForOneToken(t *testing.T) {
	secret := []byte(rand.Text() + rand.Text())
	a, b, c := hostOf(t, secret), hostOf(t, secret), hostOf(t, secret)
	ma, mb, mc := a.module(), b.module(), c.module()
	for h, m := range map[*host]*register.Register{a: ma, b: mb, c: mc} {
		h.must(h.load(m, h.first))
	}
	second, _ := a.next(ma, "second")
	join := b.linkTo(mb, second)
	refused(t, c.follow(mc, second, join), fault.EpochStale)
	c.inForce(mc, c.first)
	b.must(b.follow(mb, second, join))
	// Its time is over.
	d := hostOf(t, secret)
	md := d.module()
	d.must(d.load(md, d.first))
	late := d.linkTo(md, second)
	d.now = d.now.Add(time.Hour)
	refused(t, d.follow(md, second, late), fault.EpochStale)
	d.inForce(md, d.first)
	third, link := a.next(ma, "third")
	b.must(b.follow(mb, third, link))
	refused(t, b.follow(mb, second, join), fault.EpochStale)
	b.inForce(mb, third)
	// A later register cannot be joined by the link to an earlier one.
	refused(t, c.follow(mc, third, join, link), fault.EpochStale)
}
