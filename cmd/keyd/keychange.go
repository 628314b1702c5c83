package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	keydv1 "keyd/api/keyd/v1"
	"keyd/ceremony"
	"keyd/hsm"
	"keyd/officer"
)

// keyChange is a command that changes a key by a ceremony: it makes a definition or reads
// one, begins, and approves for the officer who runs it.
type keyChange struct {
	desk      desk
	out       output
	approval  approvalFlags
	kinds     []ceremony.Kind
	file      string
	beginOnly bool
	reason    string
	validFor  time.Duration
	saved     func(*officer.Papers) error // what is done with the papers at the end
}

// changeLong ends the help of every such command.
const changeLong = `

It begins a ceremony and approves it for you; other officers then approve it with keyd
ceremony approve, as the command says when it ends. --definition FILE takes the place of
the other flags; docs/ceremonies.md says what can be written there.`

func (k *keyChange) command(use, short, long, example string, kinds ...ceremony.Kind) *cobra.Command {
	k.kinds = kinds
	c := &cobra.Command{Use: use, Short: short, Long: long + changeLong, Example: example, Args: cobra.MaximumNArgs(1)}
	k.desk.flags(c)
	k.out.flag(c)
	k.approval.flags(c)
	f := c.Flags()
	f.StringVar(&k.file, "definition", "", "YAML file with the definition, in place of a name and flags")
	f.BoolVar(&k.beginOnly, "begin-only", false, "begin the ceremony, and approve nothing yet")
	f.StringVar(&k.reason, "reason", "", "for the record: why, or a ticket's number")
	f.DurationVar(&k.validFor, "valid-for", 24*time.Hour, "how long the ceremony may take, 1m to 720h")
	c.MarkFlagsMutuallyExclusive("definition", "reason")
	c.MarkFlagsMutuallyExclusive("definition", "valid-for")
	c.ValidArgsFunction = completeKeys(&k.desk.conn, 0)
	return c
}

// instead marks flags that a definition takes the place of.
func instead(c *cobra.Command, flags ...string) {
	for _, name := range flags {
		c.MarkFlagsMutuallyExclusive("definition", name)
	}
}

// run carries the command out. build makes the definition of a name.
func (k *keyChange) run(build func(context.Context, *session, string) (*ceremony.Definition, error)) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if (k.file != "") == (len(args) == 1) {
			return fmt.Errorf("name a key, or a file with --definition: %s", cmd.UseLine())
		}
		if _, err := k.out.json(); err != nil {
			return err
		}
		var d *ceremony.Definition
		var err error
		if k.file != "" { // before the key's passphrase is asked for
			if d, err = k.read(); err != nil {
				return err
			}
		}
		s, err := k.desk.sign(cmd.Context())
		if err != nil {
			return err
		}
		defer s.Close()
		if d == nil {
			if d, err = build(cmd.Context(), s, args[0]); err != nil {
				return err
			}
			d.Reason, d.ValidFor = k.reason, int64(k.validFor/time.Second)
		}
		if err := d.Validate(); err != nil {
			return err
		}
		return k.change(cmd.Context(), s, d)
	}
}

func (k *keyChange) read() (*ceremony.Definition, error) {
	d, err := ceremony.Read(k.file)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(k.kinds, d.Kind) {
		var names []string
		for _, kind := range k.kinds {
			names = append(names, string(kind))
		}
		return nil, fmt.Errorf("%s is of kind %s; this command is for kind %s (keyd ceremony begin takes any)", k.file, d.Kind, strings.Join(names, " or "))
	}
	return d, nil
}

func (k *keyChange) change(ctx context.Context, s *session, d *ceremony.Definition) error {
	if k.approval.checkValue != "" && (d.Key == nil || d.Kind == ceremony.Create) {
		return fmt.Errorf("a definition of kind %s has no check value to approve: leave out --check-value", d.Kind)
	}
	if want := officer.NormalCheckValue(k.approval.checkValue); d.Kind == ceremony.Load && want != d.CheckValue && want != "" {
		return fmt.Errorf("%s demands the check value %q, and you expect %s: write check_value into the definition", k.file, d.CheckValue, want)
	}
	p, err := s.Begin(ctx, d)
	if err != nil {
		return err
	}
	if !k.beginOnly && p.Missing().Components == 0 {
		// Whatever goes wrong now, the ceremony is open.
		after, err := s.approve(ctx, p, &k.approval, &k.out)
		if err != nil {
			return fmt.Errorf("%w\n%s", err, s.leftOpen(p))
		}
		p = after
	}
	if k.saved != nil {
		if err := k.saved(p); err != nil {
			return err
		}
	}
	return s.report(p, &k.out)
}

// leftOpen says what becomes of a ceremony that was begun and perhaps not approved.
func (s *session) leftOpen(p *officer.Papers) string {
	return fmt.Sprintf("ceremony %s was begun: keyd ceremony show says how it stands, approve goes on with it, abort ends it", p.Opening.ID)
}

// named returns a key as the officer named it: NAME?version=N, or NAME in the version that
// the service says is current. That a name is an alias is the service's word, which could
// lead to any key, so the officer is asked, whatever --yes says.
func named(ctx context.Context, s *session, reference string) (*keydv1.Key, error) {
	name, _, exact := strings.Cut(reference, "?")
	k, err := getKey(ctx, s, reference)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", reference, err)
	}
	is := &ceremony.KeyRef{Name: k.KeyId, Version: k.Version}
	if again, err := ceremony.ParseKeyRef(is.String()); err != nil || *again != *is {
		return nil, fmt.Errorf("%w: it answers with a key that can have no such name", officer.ErrNotBelieved)
	}
	if exact {
		want, err := ceremony.ParseKeyRef(reference)
		if err != nil {
			return nil, err
		}
		if *want != *is {
			return nil, fmt.Errorf("%w: asked for %s, it answers with %s; name the key itself, not an alias, where you name a version", officer.ErrNotBelieved, want, is)
		}
		return k, nil
	}
	if k.KeyId == name {
		return k, nil
	}
	err = officer.Ask(func(t *officer.Terminal) error {
		return t.Confirm(fmt.Sprintf("The service says that %s is an alias of %s. Is that the key that you mean? (yes)", name, is), "yes")
	})
	if errors.Is(err, officer.ErrNoTerminal) {
		err = fmt.Errorf("%w: the service says that %s is an alias of %s; name the key itself, so that it cannot lead you to another", err, name, is)
	}
	return k, err
}

// resolve returns the key and the version that a reference names.
func resolve(ctx context.Context, s *session, reference string) (*ceremony.KeyRef, error) {
	k, err := named(ctx, s, reference)
	if err != nil {
		return nil, err
	}
	return &ceremony.KeyRef{Name: k.KeyId, Version: k.Version}, nil
}

// target is [resolve] for a key that the ceremony changes.
func target(ctx context.Context, s *session, reference string) (*ceremony.KeyRef, error) {
	k, err := named(ctx, s, reference)
	if err != nil {
		return nil, err
	}
	return &ceremony.KeyRef{Name: k.KeyId, Version: k.Version}, officers(k)
}

// officers reports whether a key is one that officers brought in.
func officers(k *keydv1.Key) error {
	if k.TestKey {
		return fmt.Errorf("%s is a known test key of a development service: no officer brought it in, and none can change it (keyd dev --keys does)", k.KeyId)
	}
	return nil
}

func getKey(ctx context.Context, s *session, reference string) (*keydv1.Key, error) {
	return keydv1.NewKeyServiceClient(s.calls).GetKey(ctx, &keydv1.GetKeyRequest{KeyId: reference})
}

// onTarget is a command that does something with a key that is there.
func onTarget(use, short, long, example string, kind ceremony.Kind) (*cobra.Command, *keyChange, *ceremony.Definition) {
	k, d := new(keyChange), &ceremony.Definition{Kind: kind}
	c := k.command(use, short, long, example, kind)
	c.RunE = k.run(func(ctx context.Context, s *session, name string) (_ *ceremony.Definition, err error) {
		d.Target, err = target(ctx, s, name)
		return d, err
	})
	return c, k, d
}

func keyStop() *cobra.Command {
	c, _, _ := onTarget("stop NAME[?version=N]", "Stop a key at once; one officer can",
		`Stops a version of a key: it is not used any more, from that moment on, until officers start
it again together.`,
		`  keyd key stop zone-issuer --reason "INC-2041, suspected compromise" --dir ./dev --as officer-1 --yes`, ceremony.Stop)
	return c
}

func keyStart() *cobra.Command {
	c, _, _ := onTarget("start NAME[?version=N]", "Have a stopped key used again",
		`Starts a version of a key that was stopped.`,
		`  keyd key start zone-issuer --dir ./dev --as officer-1`, ceremony.Start)
	return c
}

func keyRestore() *cobra.Command {
	c, _, _ := onTarget("restore NAME[?version=N]", "Call off a deletion that still waits",
		`Calls the deletion of a version of a key off while it waits. The key stays stopped.`,
		`  keyd key restore zone-issuer --dir ./dev --as officer-1`, ceremony.Restore)
	return c
}

func keyDelete() *cobra.Command {
	c, k, d := onTarget("delete NAME[?version=N]", "Delete a key, after a time in which it can be restored",
		`Stops a version of a key at once, and destroys it after a time. Until then keyd key restore
calls it off; afterwards nothing brings it back.`,
		`  keyd key delete 'zone-issuer?version=1' --wait 720h --dir ./dev --as officer-1`, ceremony.Delete)
	wait := c.Flags().Duration("wait", 7*24*time.Hour, "how long it can be restored, 72h to 4320h")
	instead(c, "wait")
	run := c.RunE
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if k.file == "" {
			d.Wait = int64(*wait / time.Second)
		}
		return run(cmd, args)
	}
	return c
}

// specFlags describe a key that comes to be.
type specFlags struct {
	spec                ceremony.KeySpec
	ksn                 string
	formats             []string
	notBefore, notAfter string
	overlap             time.Duration
}

func (k *specFlags) flags(c *cobra.Command) {
	f, s := c.Flags(), &k.spec
	f.Uint32Var(&s.Version, "key-version", 1, "version of the key: 1 for a new name, else the one after the newest")
	f.StringVar(&s.Usage, "usage", "", "X9.143 usage: P0, V2, M6, …")
	f.StringVar(&s.Algorithm, "algorithm", "", "T (TDES), A (AES), H (HMAC); of key pairs R (RSA) or E (elliptic curve)")
	f.Uint16Var(&s.Length, "length", 0, "length in bytes: T 16 or 24, A 16, 24 or 32, H 16 to 64, R 256 to 512, E 32, 48 or 66")
	f.StringVar(&s.Mode, "mode", "", "X9.143 mode of use: B, E, D, C, G, V, X, N; S and T are of key pairs")
	f.StringVar(&s.Exportability, "exportability", "N", "N (never), E or S")
	f.StringVar(&s.Direction, "direction", "", "of B0, P0, D0 and M keys, which need one: incoming, outgoing or both (B0: incoming when not given)")
	f.StringSliceVar(&s.Peers, "peers", nil, "of B0, P0, D0, V1, V2 and S0: groups; PIN blocks and data go only between keys that share one, * shares with all")
	f.StringSliceVar(&k.formats, "formats", nil, "PIN-block formats of B0 and P0: 0, 1, 3, 4")
	f.StringSliceVar(&s.DataModes, "data-modes", nil, "of D0 and B0: CBC or CTR")
	f.Uint8Var(&s.MACLength, "mac-length", 0, "least length of a MAC in bytes, of M and B0 keys")
	f.StringSliceVar(&s.InjectionHosts, "injection-hosts", nil, "of B0: key pairs (S0) whose host may send its initial keys to terminals over the network, each to one device")
	f.StringVar(&s.PINKind, "pin-kind", "", "of B0 and P0: record, for PINs of PIN records (supervisors) and no others")
	f.StringVar(&k.ksn, "ksn", "", "of B0: monotonic (when not given) or off")
	f.StringVar(&k.notBefore, "not-before", "", "when the key becomes valid, as 2026-07-01T00:00:00Z")
	f.StringVar(&k.notAfter, "not-after", "", "when the key stops being valid, as 2027-07-01T00:00:00Z")
	f.DurationVar(&k.overlap, "overlap", 0, "how long the version before is still used")
	instead(c, "key-version", "usage", "algorithm", "length", "mode", "exportability", "direction", "peers", "formats", "data-modes", "mac-length", "ksn", "injection-hosts", "pin-kind", "not-before", "not-after", "overlap")
	completeFlag(c, "usage", usageValues()...)
	completeFlag(c, "algorithm", "T\tTDES", "A\tAES", "H\tHMAC", "R\tRSA key pair", "E\telliptic-curve key pair")
	completeFlag(c, "mode", "B\tboth ways", "C\tmake and verify", "D\tdecipher only", "E\tencipher only", "G\tmake only", "V\tverify only", "X\tderive keys", "N\tno special restriction")
	completeFlag(c, "exportability", "N\tnever", "E\tunder a key of this token", "S\tlikewise, also by older key blocks")
	completeFlag(c, "direction", hsm.DirectionIncoming, hsm.DirectionOutgoing, hsm.DirectionBoth)
	completeFlag(c, "formats", "0", "1", "3", "4")
	completeFlag(c, "data-modes", "CBC", "CTR")
	completeFlag(c, "pin-kind", hsm.PINRecord)
	completeFlag(c, "ksn", hsm.KSNMonotonic, "off")
}

// of returns the specification for a name.
func (k *specFlags) of(name string) (*ceremony.KeySpec, error) {
	s := k.spec
	s.Name = name
	var err error
	if s.Formats, err = officer.Formats(k.formats); err != nil {
		return nil, err
	}
	for _, date := range []struct {
		text string
		into *int64
	}{{k.notBefore, &s.NotBefore}, {k.notAfter, &s.NotAfter}} {
		if date.text == "" {
			continue
		}
		t, err := time.Parse(time.RFC3339, date.text)
		if err != nil {
			return nil, fmt.Errorf("%q is no time such as 2026-07-01T00:00:00Z", date.text)
		}
		*date.into = t.Unix()
	}
	s.KSNCheck = k.ksn
	if s.Usage == "B0" {
		if s.Direction == "" {
			s.Direction = hsm.DirectionIncoming
		}
		if s.KSNCheck == "" {
			s.KSNCheck = hsm.KSNMonotonic
		}
	}
	if s.KSNCheck == "off" {
		s.KSNCheck = ""
	}
	return &s, nil
}

func keyCreate() *cobra.Command {
	k, spec := new(keyChange), new(specFlags)
	var components int
	c := k.command("create NAME", "Make a random key, or have one entered in components",
		`Makes a random key in the module. With --components it begins the ceremony in which officers
enter a key that comes on paper, one component each; --check-value is then what the letter
says of the whole key.`,
		`  keyd key create zone-issuer --usage P0 --algorithm T --length 24 --mode E \
      --direction outgoing --peers issuer --formats 0 --dir ./dev --as officer-1
  keyd key create zmk-visa --usage K0 --algorithm T --length 24 --mode D --components 3 \
      --check-value 08D7B4 --dir ./dev --as officer-1
  keyd key create --definition zone-issuer.yaml --dir ./dev --as officer-1`, ceremony.Create, ceremony.Load)
	spec.flags(c)
	c.Flags().IntVar(&components, "components", 0, "how many officers enter a component each, 2 to 9")
	instead(c, "components")
	c.RunE = k.run(func(_ context.Context, _ *session, name string) (*ceremony.Definition, error) {
		s, err := spec.of(name)
		d := &ceremony.Definition{Kind: ceremony.Create, Key: s, Overlap: int64(spec.overlap / time.Second)}
		if components != 0 {
			d.Kind, d.Components, d.CheckValue = ceremony.Load, components, officer.NormalCheckValue(k.approval.checkValue)
		}
		return d, err
	})
	return c
}

func keyImport() *cobra.Command {
	k, spec := new(keyChange), new(specFlags)
	var under, blockFile string
	var weaker bool
	c := k.command("import NAME", "Bring in a key from a key block",
		`Brings in the key in a key block (X9.143, versions A to D) under a key block protection key
that is here. What the block says of its key need not be repeated; its length must be
said. --check-value is what the letter that came with it says.`,
		`  keyd key import zone-visa --block-file visa.tr31 --under zmk-visa --length 16 \
      --direction both --peers visa --formats 0 --check-value 08D7B4 --dir ./dev --as officer-1`, ceremony.Import)
	spec.flags(c)
	f := c.Flags()
	f.StringVar(&under, "under", "", "the key block protection key, NAME or NAME?version=N")
	f.StringVar(&blockFile, "block-file", "", "file with the key block")
	f.BoolVar(&weaker, "allow-weaker", false, "let the key block protection key be weaker than the key; it takes two officers")
	instead(c, "under", "block-file", "allow-weaker")
	completeKeyFlag(c, "under", &k.desk.conn)
	c.RunE = k.run(func(ctx context.Context, sess *session, name string) (*ceremony.Definition, error) {
		if under == "" || blockFile == "" {
			return nil, errors.New("an import needs --block-file and --under")
		}
		text, err := os.ReadFile(blockFile)
		if err != nil {
			return nil, err
		}
		block := strings.TrimSpace(string(text))
		if err := officer.FromBlock(&spec.spec, block); err != nil {
			return nil, fmt.Errorf("%s: %w", blockFile, err)
		}
		s, err := spec.of(name)
		if err != nil {
			return nil, err
		}
		d := &ceremony.Definition{
			Kind: ceremony.Import, Key: s, Block: block, AllowWeaker: weaker, Overlap: int64(spec.overlap / time.Second),
			CheckValue: officer.NormalCheckValue(k.approval.checkValue),
		}
		d.Under, err = resolve(ctx, sess, under)
		return d, err
	})
	return c
}

func keyAttach() *cobra.Command {
	k, spec := new(keyChange), new(specFlags)
	var object string
	c := k.command("attach NAME", "Take in a key that the token already holds",
		`Takes in a secret key that lies in the token as an object, made there by other means.`,
		`  keyd key attach zone-old --object LEGACY-ZPK --usage P0 --algorithm T --length 16 --mode E \
      --direction outgoing --formats 0 --check-value 08D7B4 --dir ./dev --as officer-1`, ceremony.Attach)
	spec.flags(c)
	c.Flags().StringVar(&object, "object", "", "label of the secret key in the token")
	instead(c, "object")
	c.RunE = k.run(func(_ context.Context, _ *session, name string) (*ceremony.Definition, error) {
		s, err := spec.of(name)
		return &ceremony.Definition{
			Kind: ceremony.Attach, Key: s, Object: object, Overlap: int64(spec.overlap / time.Second),
			CheckValue: officer.NormalCheckValue(k.approval.checkValue),
		}, err
	})
	return c
}

func keyExport() *cobra.Command {
	var form ceremony.BlockForm
	var under, file string
	var weaker bool
	k := new(keyChange)
	c := k.command("export NAME[?version=N]", "Have a key written as a key block",
		`Writes a key as a key block (X9.143) under a key block protection key that is here. With
--initial-key-id the initial key of one terminal leaves, and the base derivation key
stays. --out writes the block if this approval completes the ceremony; later, keyd
ceremony show ID --key-block FILE does.`,
		`  keyd key export zone-visa --under zmk-visa --block-version B --out visa.tr31 --dir ./dev --as officer-1`, ceremony.Export)
	f := c.Flags()
	f.StringVar(&under, "under", "", "the key block protection key, NAME or NAME?version=N")
	f.StringVar(&form.Version, "block-version", "D", "version of the key block: B, C or D")
	f.StringVar(&form.Exportability, "exportability", "N", "exportability in the block: N, E or S")
	f.StringVar(&form.KeyVersion, "block-key-version", "", "key version in the block, two characters")
	f.StringVar(&form.Mode, "mode", "", "mode of use in the block (default: the key's own)")
	f.StringVar(&form.KSN, "initial-key-id", "", "of a B0 key: the KSN of the terminal whose initial key leaves, in hex")
	f.StringVar(&form.Label, "label", "", "label in the block")
	f.BoolVar(&form.Time, "time", false, "write the time into the block")
	f.BoolVar(&form.CheckValues, "check-values", false, "write check values into the block")
	f.BoolVar(&weaker, "allow-weaker", false, "let the key block protection key be weaker than the key; it takes two officers")
	f.StringVar(&file, "out", "", "file that is made for the key block")
	instead(c, "under", "block-version", "exportability", "block-key-version", "mode", "initial-key-id", "label", "time", "check-values", "allow-weaker")
	completeKeyFlag(c, "under", &k.desk.conn)
	completeFlag(c, "block-version", "B\tTDES or AES, binding", "C\tas TR-31:2005, where the roster allows it", "D\tAES")
	completeFlag(c, "exportability", "N\tnever", "E\tunder a trusted key", "S\tlikewise, also by older key blocks")
	k.saved = func(p *officer.Papers) error {
		if file != "" && p.Record == nil {
			fmt.Fprintf(os.Stderr, "keyd: there is no key block yet: when the ceremony is complete, keyd ceremony show %s --key-block %s writes it\n", p.Opening.ID, file)
			return nil
		}
		return writeKeyBlock(file, p)
	}
	c.RunE = k.run(func(ctx context.Context, s *session, name string) (*ceremony.Definition, error) {
		if under == "" {
			return nil, errors.New("an export needs --under")
		}
		form.KSN = strings.ToUpper(form.KSN)
		d := &ceremony.Definition{Kind: ceremony.Export, Export: &form, AllowWeaker: weaker}
		var err error
		if d.Target, err = target(ctx, s, name); err != nil {
			return nil, err
		}
		d.Under, err = resolve(ctx, s, under)
		return d, err
	})
	return c
}

func keyRotate() *cobra.Command {
	var overlap time.Duration
	var notAfter string
	k := new(keyChange)
	c := k.command("rotate NAME", "Give a key another, random version",
		`Makes the next version of a key, at random, which may be used for exactly what the current
one may. Compare what it shows before you approve: what the current version may be used
for is the service's word until then. For --overlap the version before is still used.`,
		`  keyd key rotate zone-issuer --overlap 720h --dir ./dev --as officer-1`, ceremony.Create)
	c.Flags().DurationVar(&overlap, "overlap", 0, "how long the version before is still used, for example 720h")
	c.Flags().StringVar(&notAfter, "not-after", "", "when the next version stops being valid, as 2027-07-01T00:00:00Z, or never")
	instead(c, "overlap", "not-after")
	c.RunE = k.run(func(ctx context.Context, s *session, name string) (*ceremony.Definition, error) {
		end := specFlags{notAfter: notAfter}
		if notAfter == "never" {
			end.notAfter = ""
		}
		validity, err := end.of(name)
		if err != nil {
			return nil, err
		}
		current, err := named(ctx, s, name)
		if err != nil {
			return nil, err
		}
		if err := officers(current); err != nil {
			return nil, err
		}
		if current.NotAfter != nil && notAfter == "" {
			return nil, fmt.Errorf("the present version is valid until %s: say with --not-after until when the next one is, or never", officer.At(current.NotAfter.Seconds))
		}
		next, err := officer.NextVersion(current)
		if err == nil {
			next.NotAfter = validity.NotAfter
		}
		return &ceremony.Definition{Kind: ceremony.Create, Key: next, Overlap: int64(overlap / time.Second)}, err
	})
	return c
}
