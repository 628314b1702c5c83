package register_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/register"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/softhsm"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/token/tokentest"
)

// countRole has the test binary count on the page that is its first descriptor after standard
// error: as another module of the host.
const countRole = "KEYD_REGISTER_TEST_COUNT"

const counts = 5000

func TestMain(m *testing.M) {
	if os.Getenv(countRole) == "" {
		os.Exit(tokentest.Run(m))
	}
	page, err := register.OpenPage(3)
	if err == nil {
		err = page.Count(counts)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Modules exclude each other while they pin: processes, and the sessions of each.
func TestModulesExcludeEachOther(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.MemfdCreate("keyd page", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "page")
	defer file.Close()
	if err := file.Truncate(register.PageSize); err != nil {
		t.Fatal(err)
	}
	page, err := register.OpenPage(fd)
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	for range 2 {
		wait.Go(func() {
			cmd := exec.CommandContext(t.Context(), self)
			cmd.Env, cmd.Stderr, cmd.ExtraFiles = append(os.Environ(), countRole+"=1"), t.Output(), []*os.File{file}
			if err := cmd.Run(); err != nil {
				t.Error(err)
			}
		})
		wait.Go(func() {
			if err := page.Count(counts); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if count, version := page.Counted(); count != 4*counts || version != 4*counts-1 {
		t.Errorf("counted %d, version %d, want %d", count, version, 4*counts)
	}
}

// host is a token, and the page that the modules of its host share.
type host struct {
	testing.TB
	token   *token.Token
	store   softhsm.Store
	masters *sealing.Masters
	page    *os.File
	now     time.Time
	first   []byte
}

func newHost(t testing.TB) *host { return hostOf(t, []byte(rand.Text()+rand.Text())) }

// hostOf returns a host whose token has master keys of a secret.
func hostOf(t testing.TB, secret []byte) *host {
	t.Helper()
	fresh := tokentest.SoftHSM(t)
	h := &host{TB: t, token: fresh.Open(t, 2), store: softhsm.Store{fresh.Directory}, now: time.Unix(1_900_000_000, 0)}
	fd, err := unix.MemfdCreate("keyd page", unix.MFD_CLOEXEC)
	h.must(err)
	h.page = os.NewFile(uintptr(fd), "page")
	t.Cleanup(func() { _ = h.page.Close() })
	h.must(h.page.Truncate(register.PageSize))
	h.do(func(s *token.Session) error {
		if err := sealing.ImportMasters(s, sealing.FirstGeneration, secret[:sealing.SecretSize]); err != nil {
			return err
		}
		if h.masters, err = sealing.FindMasters(s, sealing.FirstGeneration); err != nil {
			return err
		}
		h.first, err = register.Create(s, h.masters, h.epoch(t))
		return err
	})
	return h
}

func (h *host) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

func (h *host) do(f func(*token.Session) error) {
	h.Helper()
	h.must(h.token.Do(f))
}

// epoch is a token's first one, in force since now.
func (h *host) epoch(t testing.TB) *ceremony.Epoch {
	t.Helper()
	e := &ceremony.Epoch{Version: 1, Clock: h.now.Unix(), Generation: 1, Oldest: 1, Roster: ceremony.Roster{Quorum: ceremony.Quorum{Components: 2, Approvals: 2, Roster: 2}}}
	for _, name := range []string{"alice", "bob"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		h.must(err)
		der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
		h.must(err)
		e.Roster.Officers = append(e.Roster.Officers, ceremony.Officer{Name: name, Identity: "spiffe://keyd.test/" + name, Key: der})
	}
	return e
}

// module is what a module process of this host has.
func (h *host) module() *register.Register { return h.moduleAt(int(h.page.Fd()), false) }

func (h *host) moduleAt(fd int, development bool) *register.Register {
	h.Helper()
	page, err := register.OpenPage(fd)
	h.must(err)
	return register.New(page, sealing.NewSet(h.masters), development, func() time.Time { return h.now }, h.store)
}

func (h *host) load(r *register.Register, sealed []byte) error {
	return h.token.Do(func(s *token.Session) error { return r.Load(s, sealed) })
}

func (h *host) offer(r *register.Register, sealed []byte) error {
	return h.token.Do(func(s *token.Session) error { return r.Offer(s, sealed) })
}

func (h *host) commit(r *register.Register, sealed []byte) error {
	_, err := h.link(r, sealed)
	return err
}

// link pins a proposal and returns the link to it.
func (h *host) link(r *register.Register, sealed []byte) (link []byte, err error) {
	err = h.token.Do(func(s *token.Session) (err error) {
		link, err = r.Commit(s, sealed, func(*ceremony.Epoch) error { return nil })
		return err
	})
	return link, err
}

// propose makes the epoch that follows the one in force, changed.
func (h *host) propose(r *register.Register, change func(*ceremony.Epoch)) (sealed []byte) {
	h.Helper()
	e, err := r.Current()
	h.must(err)
	next := e.Clone()
	if change != nil {
		change(next)
	}
	h.do(func(s *token.Session) (err error) { sealed, err = r.Propose(s, e, next, ceremony.MaxEpoch); return err })
	return sealed
}

func refused(t testing.TB, err error, reason fault.Reason) {
	t.Helper()
	if err == nil || fault.Of(err).Reason != reason {
		t.Errorf("%v, want %v", err, reason)
	}
}

// inForce asserts that a module goes by an epoch, without having been told anything now.
func (h *host) inForce(r *register.Register, sealed []byte) {
	h.Helper()
	_, document, err := r.Document()
	if err != nil || document != ceremony.Digest(sealed) {
		h.Errorf("another epoch is in force: %s, %v", document, err)
	}
}

func (h *host) pins() (objects []token.Data) {
	h.Helper()
	h.do(func(s *token.Session) (err error) { objects, err = s.FindData("keyd epoch"); return err })
	return objects
}

// The first epoch is made once, and lies in the token as long as no other follows it.
func TestTheFirstEpochIsMadeOnce(t *testing.T) {
	h := newHost(t)
	h.do(func(s *token.Session) error {
		if _, err := register.Create(s, h.masters, h.epoch(t)); err == nil {
			t.Error("made twice")
		}
		first, err := register.First(s)
		if !bytes.Equal(first, h.first) {
			t.Error("the token keeps another document")
		}
		return err
	})
	m := h.module()
	_, err := m.Current()
	refused(t, err, fault.EpochStale) // nobody brought it yet
	h.must(h.load(m, h.first))
	h.inForce(m, h.first)
	h.must(h.commit(m, h.propose(m, nil)))
	h.do(func(s *token.Session) error {
		first, err := register.First(s)
		if len(first) != 0 {
			t.Error("the first epoch is still there")
		}
		return err
	})
	empty := tokentest.SoftHSM(t).Open(t, 1)
	if err := empty.Do(func(s *token.Session) error { _, err := register.First(s); return err }); !errors.Is(err, register.ErrNoPin) {
		t.Errorf("a token without a roster: %v", err)
	}
}

// Only the epoch that is pinned is loaded.
func TestOnlyThePinnedEpochIsLoaded(t *testing.T) {
	h, foreign := newHost(t), newHost(t)
	m := h.module()
	h.must(h.load(m, h.first))
	never := h.propose(m, func(e *ceremony.Epoch) { e.Done = []ceremony.Done{{ID: "never", Expires: 1}} })
	second := h.propose(m, nil)
	refused(t, h.load(m, second), fault.EpochStale) // not yet
	h.must(h.commit(m, second))
	h.must(h.load(m, second))
	altered := bytes.Clone(second)
	altered[len(altered)-1] ^= 1
	other := bytes.Replace(second, []byte(`"clock":19`), []byte(`"clock":18`), 1)
	for name, c := range map[string]struct {
		sealed []byte
		want   fault.Reason
	}{
		"an older one":           {h.first, fault.EpochStale},
		"one never pinned":       {never, fault.EpochStale},
		"an altered code":        {altered, fault.EpochInvalid},
		"an altered document":    {other, fault.EpochInvalid},
		"one of another token":   {foreign.first, fault.EpochInvalid},
		"one of no masters here": {bytes.Replace(second, []byte(`"generation":1,"oldest":1`), []byte(`"generation":7,"oldest":1`), 1), fault.EpochInvalid},
		"nothing":                {nil, fault.EpochInvalid},
		"a code alone":           {make([]byte, 16), fault.EpochInvalid},
		"half":                   {second[:len(second)/2], fault.EpochInvalid},
		"too much":               {bytes.Repeat(second, 1000), fault.EpochInvalid},
	} {
		for _, module := range []*register.Register{m, h.module()} { // one that runs, one that starts
			if err := h.load(module, c.sealed); fault.Of(err).Reason != c.want {
				t.Errorf("%s: %v, want %v", name, err, c.want)
			}
		}
		if c.want == fault.EpochInvalid {
			refused(t, h.offer(m, c.sealed), c.want)
			refused(t, h.commit(m, c.sealed), c.want)
		}
	}
	h.inForce(m, second)
}

// What one module pins is in force in the others at once, if they were offered it before;
// else they refuse everything until they are told.
func TestModulesOfAHostNoticeAtOnce(t *testing.T) {
	h := newHost(t)
	one, two, three := h.module(), h.module(), h.module()
	for _, m := range []*register.Register{one, two, three} {
		h.must(h.load(m, h.first))
	}
	second := h.propose(one, nil)
	h.must(h.offer(two, second))
	h.inForce(two, h.first) // an offer changes nothing
	h.must(h.commit(one, second))
	h.inForce(one, second)
	h.inForce(two, second)
	_, err := three.Current()
	refused(t, err, fault.EpochStale)
	refused(t, three.Admit(&hsm.Header{Name: "k", Version: 1, Generation: 1}, ""), fault.EpochStale)
	if loaded, pinned := three.Loaded(); loaded != 1 || pinned != 2 {
		t.Errorf("loaded %d, pinned %d", loaded, pinned)
	}
	h.do(func(s *token.Session) error {
		e := h.epoch(t)
		_, err := three.Propose(s, e, e.Clone(), ceremony.MaxEpoch)
		refused(t, err, fault.EpochStale)
		return nil
	})
	h.must(h.load(three, second))
	h.inForce(three, second)

	// An offer that never came to be is forgotten for the next.
	h.must(h.offer(two, h.propose(one, func(e *ceremony.Epoch) { e.Done = []ceremony.Done{{ID: "x", Expires: 1}} })))
	third := h.propose(one, nil)
	h.must(h.commit(one, third))
	_, err = two.Current()
	refused(t, err, fault.EpochStale)
	h.must(h.load(two, third))
	h.inForce(two, third)
}

// A module of another host, with a page of its own, notices when it looks.
func TestModulesOfOtherHostsNoticeWhenTheyLook(t *testing.T) {
	h := newHost(t)
	here, there := h.module(), h.moduleAt(-1, false)
	h.must(h.load(here, h.first))
	h.must(h.load(there, h.first))
	second := h.propose(here, nil)
	h.must(h.commit(here, second))
	h.inForce(there, h.first)
	h.do(there.Refresh)
	_, err := there.Current()
	refused(t, err, fault.EpochStale)
	stale := h.commit(there, second) // pinned already: nothing to do
	h.must(stale)
	h.inForce(there, second)
}

// Of two that follow the same epoch one is pinned, whoever is first; the other is refused,
// and so it stays.
func TestTwoCommitsOnOneEpoch(t *testing.T) {
	h := newHost(t)
	m := h.module()
	h.must(h.load(m, h.first))
	var proposals [4][]byte
	for i := range proposals {
		proposals[i] = h.propose(m, func(e *ceremony.Epoch) { e.Done = []ceremony.Done{{ID: string(rune('a' + i)), Expires: 1}} })
	}
	errs := make([]error, len(proposals))
	var wait sync.WaitGroup
	for i, p := range proposals {
		wait.Go(func() { errs[i] = h.commit(m, p) })
	}
	wait.Wait()
	won := -1
	for i, err := range errs {
		if err == nil && won < 0 {
			won = i
			continue
		}
		refused(t, err, fault.EpochStale)
	}
	if won < 0 {
		t.Fatal(errs)
	}
	h.inForce(m, proposals[won])
	h.must(h.commit(m, proposals[won])) // again
	for i, p := range proposals {
		if i != won {
			refused(t, h.commit(m, p), fault.EpochStale)
		}
	}
	if n := len(h.pins()); n != 1 {
		t.Errorf("%d pins", n)
	}
	// A proposal does not outlive the epoch that it was made on, even by a made-up object.
	e, err := m.Current()
	h.must(err)
	h.must(h.commit(m, h.propose(m, nil)))
	h.do(func(s *token.Session) error {
		_, err := m.Propose(s, e, e.Clone(), ceremony.MaxEpoch)
		refused(t, err, fault.EpochStale)
		return nil
	})
}

// pin is what a Commit writes to the token.
func pin(version uint64, sealed, first []byte) []byte {
	digest := sha256.Sum256(sealed)
	b := binary.BigEndian.AppendUint64(nil, version)
	b = binary.BigEndian.AppendUint32(b, 1)
	return slices.Concat(b, digest[:], first)
}

// The power goes: before the pin is written, between the new pin and the removal of the old
// one, after a pin whose answer was lost and which was written again, or in the middle of a
// removal of several.
func TestLossOfPowerInACommit(t *testing.T) {
	h := newHost(t)
	m := h.module()
	h.must(h.load(m, h.first))
	second := h.propose(m, nil)

	m = h.module() // before: a start finds the first
	h.must(h.load(m, h.first))
	refused(t, h.load(m, second), fault.EpochStale)

	h.do(func(s *token.Session) error { _, err := s.PutData("keyd epoch", pin(2, second, nil)); return err }) // between
	for name, fd := range map[string]int{"the same host": int(h.page.Fd()), "a host that has started anew": -1} {
		m = h.moduleAt(fd, false)
		if err := h.load(m, h.first); fault.Of(err).Reason != fault.EpochStale {
			t.Errorf("%s: %v", name, err)
		}
		h.must(h.load(m, second))
	}
	h.do(func(s *token.Session) error { _, err := s.PutData("keyd epoch", pin(2, second, nil)); return err }) // again
	m = h.module()
	h.must(h.load(m, second))
	if len(h.pins()) != 3 {
		t.Fatal("the old pins are no more")
	}
	h.must(h.commit(m, second)) // as a front does that does not know how it ended
	if n := len(h.pins()); n != 1 {
		t.Errorf("%d pins are left", n)
	}
	h.inForce(m, second)

	third := h.propose(m, nil)
	h.do(func(s *token.Session) error { // several old ones
		for _, p := range [][]byte{pin(1, h.first, h.first), pin(1, h.first, h.first)} {
			if _, err := s.PutData("keyd epoch", p); err != nil {
				return err
			}
		}
		return nil
	})
	h.must(h.commit(m, third))
	if n := len(h.pins()); n != 1 {
		t.Errorf("%d pins are left", n)
	}
	h.inForce(m, third)
}

// Pins that contradict each other, or are none, stop everything.
func TestPinsThatAreNone(t *testing.T) {
	for name, value := range map[string][]byte{"two of one version": pin(1, []byte("another"), nil), "short": {1, 2, 3}, "empty": {}} {
		h := newHost(t)
		m := h.module()
		h.do(func(s *token.Session) error { _, err := s.PutData("keyd epoch", value); return err })
		if err := h.load(m, h.first); err == nil || fault.Of(err).Reason != fault.Internal {
			t.Errorf("%s: Load %v", name, err)
		}
		if err := h.commit(m, h.first); err == nil {
			t.Errorf("%s: Commit", name)
		}
		if err := h.token.Do(func(s *token.Session) error { _, err := register.Create(s, h.masters, h.epoch(t)); return err }); err == nil {
			t.Errorf("%s: Create", name)
		}
	}
}

// Time never goes behind the moment at which the epoch began.
func TestClockFloor(t *testing.T) {
	h := newHost(t)
	m := h.module()
	h.must(h.load(m, h.first))
	h.now = h.now.Add(time.Hour)
	h.must(h.commit(m, h.propose(m, nil)))
	floor := h.now
	h.now = h.now.Add(-48 * time.Hour)
	if got := m.Now(); !got.Equal(floor) {
		t.Errorf("%v, want %v", got, floor)
	}
	next := h.propose(m, nil)
	e, err := ceremony.ParseEpoch(next)
	h.must(err)
	if e.Clock != floor.Unix() {
		t.Errorf("the next epoch begins at %d", e.Clock)
	}
	h.must(h.commit(m, next))
	h.now = floor.Add(time.Minute)
	if got := m.Now(); !got.Equal(h.now) {
		t.Errorf("%v, want %v", got, h.now)
	}
}

// Each epoch names the one before.
func TestEpochsAreAChain(t *testing.T) {
	h := newHost(t)
	m := h.module()
	h.must(h.load(m, h.first))
	before := h.first
	for version := uint64(2); version < 5; version++ {
		next := h.propose(m, nil)
		e, err := ceremony.ParseEpoch(next)
		h.must(err)
		if digest := sha256.Sum256(before); e.Version != version || e.Previous != hex.EncodeToString(digest[:]) {
			t.Errorf("version %d follows %s", e.Version, e.Previous)
		}
		h.must(h.commit(m, next))
		before = next
	}
}

// Whether a key may be used follows from the register alone.
func TestAdmit(t *testing.T) {
	h := newHost(t)
	m, development := h.module(), h.moduleAt(int(h.page.Fd()), true)
	h.must(h.load(m, h.first))
	now := h.now.Unix()
	entries := []ceremony.Entry{
		{Name: "active", State: ceremony.Active},
		{Name: "deleting", State: ceremony.Deleting, Until: now + 1000},
		{Name: "destroyed", State: ceremony.Deleting, Until: now - 1000},
		{Name: "overlapping", State: ceremony.Active, Until: now + 1},
		{Name: "stopped", State: ceremony.Stopped},
		{Name: "strange", State: "x"},
		{Name: "superseded", State: ceremony.Active, Until: now},
		{Name: "terminal:old", State: ceremony.Active},
	}
	header := func(name string) *hsm.Header { return &hsm.Header{Name: name, Version: 1, Generation: 1} }
	digest := func(header *hsm.Header) string {
		d, err := ceremony.HeaderDigest(header)
		h.must(err)
		return d
	}
	for i := range entries {
		entries[i].Version, entries[i].Header = 1, digest(header(entries[i].Name))
	}
	second := h.propose(m, func(e *ceremony.Epoch) { e.Keys = entries })
	h.must(h.commit(m, second))
	h.must(h.load(development, second))
	admitted := fault.Reason(0)
	altered := header("active")
	altered.Direction = hsm.DirectionBoth
	version := header("active")
	version.Version = 2
	older := header("active")
	older.Generation = 0
	terminals := func(name, device string, generation uint32) *hsm.Header {
		return &hsm.Header{Name: name, Version: 1, Generation: generation, Device: device}
	}
	for _, c := range []struct {
		name              string
		header            *hsm.Header
		want, development fault.Reason
	}{
		{"active", header("active"), admitted, admitted},
		{"one of which nothing is known", header("unknown"), fault.KeySealInvalid, admitted},
		{"another version", version, fault.KeySealInvalid, admitted},
		{"an altered header", altered, fault.KeySealInvalid, admitted},
		{"an older generation", older, fault.KeySealInvalid, fault.KeySealInvalid},
		{"stopped", header("stopped"), fault.KeyDisabled, fault.KeyDisabled},
		{"superseded, with overlap", header("overlapping"), admitted, admitted},
		{"superseded", header("superseded"), fault.KeyDisabled, fault.KeyDisabled},
		{"deleting", header("deleting"), fault.KeyDisabled, fault.KeyDisabled},
		{"destroyed", header("destroyed"), fault.KeyDisabled, fault.KeyDisabled},
		{"a terminal's", terminals("terminal:t-1:pin", "d0", 1), admitted, admitted},
		{"a terminal's of an older generation", terminals("terminal:t-1:pin", "d0", 0), fault.KeySealInvalid, fault.KeySealInvalid},
		{"a terminal's under another name", terminals("active", "d0", 1), fault.KeySealInvalid, fault.KeySealInvalid},
		{"another under a terminal's name", terminals("terminal:t-1:pin", "", 1), fault.KeySealInvalid, fault.KeySealInvalid},
		{"one of officers under a terminal's name", header("terminal:old"), fault.KeySealInvalid, fault.KeySealInvalid},
		{"in a state of which nothing is known", header("strange"), fault.KeyDisabled, fault.KeyDisabled},
	} {
		t.Run(c.name, func(t *testing.T) {
			for mode, module := range map[string]*register.Register{"": m, "development: ": development} {
				want := c.want
				if mode != "" {
					want = c.development
				}
				if err := module.Admit(c.header, digest(c.header)); err == nil && want != admitted || err != nil && fault.Of(err).Reason != want {
					t.Errorf("%s%v, want %v", mode, err, want)
				}
			}
		})
	}
	h.now = h.now.Add(time.Second)
	refused(t, m.Admit(header("overlapping"), digest(header("overlapping"))), fault.KeyDisabled)
}

// A register that has become too large is not made.
func TestRegisterIsBounded(t *testing.T) {
	h := newHost(t)
	m := h.module()
	h.must(h.load(m, h.first))
	e, err := m.Current()
	h.must(err)
	next := e.Clone()
	for i := range 6000 {
		next.Insert(ceremony.Entry{Name: hex.EncodeToString(binary.BigEndian.AppendUint32(nil, uint32(i))), Version: 1, Usage: "P0", Fingerprint: ceremony.Digest(nil), Header: ceremony.Digest(nil), State: ceremony.Active})
	}
	h.do(func(s *token.Session) error {
		_, err := m.Propose(s, e, next, ceremony.MaxEpoch)
		refused(t, err, fault.DefinitionInvalid)
		return nil
	})
	h.inForce(m, h.first)
}

// The page is what the file behind it is: a descriptor that is none is an error.
func TestPageThatIsNone(t *testing.T) {
	if _, err := register.OpenPage(1 << 20); err == nil {
		t.Error("opened")
	}
}

// A token that says that it has kept what it has not is not believed: SoftHSM does so on a
// full disk, for which a limit on the size of files stands. Nothing is in force then but what
// was, and the proposal is pinned when there is room.
func TestPinOnAFullDisk(t *testing.T) {
	if os.Getenv("KEYD_TEST_FULL_DISK") == "" { // in a process whose other files may be cut short
		command := exec.Command(os.Args[0], "-test.run=^TestPinOnAFullDisk$", "-test.v")
		command.Env = append(os.Environ(), "KEYD_TEST_FULL_DISK=1")
		if out, err := command.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: TestPinOnAFullDisk")) {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	h := newHost(t)
	m := h.module()
	h.must(h.load(m, h.first))
	second := h.propose(m, nil)
	for _, room := range []uint64{0, 8, 100} {
		err := full(t, room, func() error { return h.commit(m, second) })
		if err == nil || fault.Of(err).Reason != fault.Internal {
			t.Errorf("%d bytes: %v", room, err)
		}
		h.inForce(m, h.first)
		h.must(h.load(h.moduleAt(-1, false), h.first))
	}
	h.must(h.commit(m, second))
	h.inForce(m, second)
}

// full runs f while no file may have more than some bytes.
func full(t *testing.T, room uint64, f func() error) error {
	t.Helper()
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: room, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	err := f()
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	return err
}

// A token whose store was replaced by an older copy while keyd runs is noticed.
func TestTokenThatHasLostItsPin(t *testing.T) {
	h := newHost(t)
	m := h.module()
	h.must(h.load(m, h.first))
	second := h.propose(m, nil)
	h.must(h.commit(m, second))
	third := h.propose(m, nil)
	h.do(func(s *token.Session) error {
		if _, err := s.PutData("keyd epoch", pin(1, h.first, h.first)); err != nil {
			return err
		}
		for _, o := range h.pins() {
			if !bytes.Equal(o.Value, pin(1, h.first, h.first)) {
				if err := s.DestroyData(o.Object); err != nil {
					return err
				}
			}
		}
		return nil
	})
	for what, f := range map[string]func() error{
		"load": func() error { return h.load(m, h.first) }, "commit": func() error { return h.commit(m, third) },
		"refresh": func() error { return h.token.Do(m.Refresh) },
	} {
		if err := f(); err == nil || fault.Of(err).Reason != fault.Internal {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// What must happen in one epoch does, or not at all; meanwhile nothing is pinned.
func TestExclusively(t *testing.T) {
	h := newHost(t)
	m := h.module() // record locks exclude no other module of the same process
	h.must(h.load(m, h.first))
	e, err := m.Current()
	h.must(err)
	second := h.propose(m, nil)
	committed := make(chan error, 1)
	h.do(func(s *token.Session) error {
		return m.Exclusively(s, e, func() error {
			go func() { committed <- h.commit(m, second) }()
			time.Sleep(50 * time.Millisecond)
			select {
			case err := <-committed:
				t.Errorf("pinned meanwhile: %v", err)
				committed <- err
			default:
			}
			return nil
		})
	})
	h.must(<-committed)
	h.inForce(m, second)
	h.do(func(s *token.Session) error {
		refused(t, m.Exclusively(s, e, func() error { t.Error("carried out in an epoch that is over"); return nil }), fault.EpochStale)
		return nil
	})
}
