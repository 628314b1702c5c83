package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	keydv1 "keyd/api/keyd/v1"
	"keyd/ceremony"
	"keyd/officer"
)

func ceremonyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "ceremony",
		GroupID: "officers",
		Short:   "What officers do together: begin, enter components, approve",
		Long: `What brings a key in, takes it out or changes what it may be used for is a ceremony: one
officer begins it with a definition, holders enter their components, and as many officers
as the roster demands approve it. The module carries it out, and signs a record.

The service in between is not trusted: every command checks the module's and the
officers' signatures, and what nobody has signed it shows as the service's word. Status 7
means that a signature did not fit, or that the module or its officers are not those that
you have confirmed.`,
		Args: cobra.NoArgs,
		RunE: needsSubcommand,
	}
	c.AddCommand(ceremonyBegin(), ceremonySubmit(), ceremonyApprove(), ceremonyAbort(), ceremonyShow(), ceremonyList(), ceremonyVerify())
	return c
}

// exitNotBelieved is the status of a command that stopped because what the service shows is
// not what a module or an officer has signed, or not the module that was confirmed.
const exitNotBelieved = 7

// oneCeremony wants the identifier of one ceremony.
func oneCeremony(c *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("name one ceremony, by its identifier (keyd ceremony list): %s", c.UseLine())
	}
	return nil
}

func ceremonyBegin() *cobra.Command {
	var d desk
	var out output
	c := &cobra.Command{
		Use:   "begin FILE",
		Short: "Have a ceremony opened for a definition",
		Long: `Signs that the definition in FILE be carried out, and has the module open a ceremony for it.
Nothing is done yet: components and approvals follow, yours among them.`,
		Example: `  keyd ceremony begin load-zmk.yaml --dir ./dev --as officer-1
  keyd ceremony begin load-zmk.yaml --server keyd.example:7443 --ca ca.crt \
      --cert alice.crt --key alice.tls.key --officer-key alice.key`,
		Args: oneFile,
	}
	d.flags(c)
	out.flag(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		own, err := ceremony.Read(args[0])
		if err != nil {
			return err
		}
		s, err := d.sign(cmd.Context())
		if err != nil {
			return err
		}
		defer s.Close()
		p, err := s.BeginCeremony(cmd.Context(), own)
		if err != nil {
			return err
		}
		return s.report(p, &out)
	}
	return c
}

// componentFlags say how a component comes in.
type componentFlags struct {
	new, written bool
	fd, outFD    int
	checkValue   string
}

func (e *componentFlags) flags(c *cobra.Command, what string) {
	f := c.Flags()
	f.BoolVar(&e.new, "new", false, "make a random "+what+", which is shown once to be written down")
	f.BoolVar(&e.written, "written", false, "type the "+what+" line by line, with the two digits that check each, as --new has shown it")
	fdFlag(c, &e.fd, "component-fd", "descriptor with the "+what+" in hex, in place of typing it")
	fdFlag(c, &e.outFD, "component-out-fd", "with --new: descriptor that the "+what+" is written to, in place of the terminal")
	f.StringVar(&e.checkValue, "component-check-value", "", "check value that the "+what+" must have, in place of the question")
	c.MarkFlagsMutuallyExclusive("new", "written", "component-fd")
	c.MarkFlagsMutuallyExclusive("new", "component-check-value")
}

func (e *componentFlags) given() bool {
	return e.new || e.written || e.fd >= 0 || e.outFD >= 0 || e.checkValue != ""
}

// entry returns how the component comes in. The function that it returns closes descriptors.
func (e *componentFlags) entry(label, algorithm string, bytes int) (officer.Entry, func(), error) {
	entry := officer.Entry{Label: label, Algorithm: algorithm, Bytes: bytes, New: e.new, Written: e.written, CheckValue: e.checkValue}
	end := func() {}
	switch {
	case e.outFD >= 0 && !e.new:
		return entry, end, errors.New("--component-out-fd is for a new component: say --new too")
	case e.outFD >= 0:
		f, err := descriptor("--component-out-fd", e.outFD)
		if err != nil {
			return entry, end, err
		}
		entry.To, end = f, func() { _ = f.Close() }
	case e.fd >= 0:
		f, err := descriptor("--component-fd", e.fd)
		if err != nil {
			return entry, end, err
		}
		entry.From, end = f, func() { _ = f.Close() }
	}
	return entry, end, nil
}

func ceremonySubmit() *cobra.Command {
	var d desk
	var out output
	var in componentFlags
	var definition string
	var index int
	c := &cobra.Command{
		Use:   "submit ID",
		Short: "Enter a component, sealed to the module",
		Long: `Has you type a component without echo, in groups of four digits, shows its check value for
you to compare with the paper, seals it to the ceremony's key, which only the module has,
and hands it in. --definition is your own copy of the definition: a component entered for
another purpose could not be taken back.`,
		Example: `  keyd ceremony submit 4be1…9c --definition load-zmk.yaml --dir ./dev --as officer-2
  keyd ceremony submit 4be1…9c --definition load-zmk.yaml --index 2 --component-fd 3 \
      --component-check-value 08D7B4 --dir ./dev --as officer-2 3<component.hex`,
		Args: oneCeremony,
	}
	d.flags(c)
	out.flag(c)
	in.flags(c, "component")
	c.Flags().StringVar(&definition, "definition", "", "your own copy of the definition")
	c.Flags().IntVar(&index, "index", 0, "number of the component (default: the first that is free, or your share's)")
	if err := c.MarkFlagRequired("definition"); err != nil {
		panic(err) // the flag is defined above
	}
	c.ValidArgsFunction = completeCeremonies(&d, keydv1.Ceremony_OPEN)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		own, err := ceremony.Read(definition)
		if err != nil {
			return err
		}
		s, p, err := d.papers(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		defer s.Close()
		if err := p.Compare(own); err != nil {
			return err
		}
		if index == 0 {
			if index, err = p.Place(s.Name()); err != nil {
				return err
			}
		}
		// Before anybody types a component.
		if err := p.MayEnter(s.Name(), index, time.Now()); err != nil {
			return err
		}
		if in.new {
			if err := p.MayMake(index); err != nil {
				return err
			}
		}
		if err := review(&out, p, false); err != nil {
			return err
		}
		algorithm, bytes := p.Component()
		entry, end, err := in.entry(officer.PlaceName(p.Definition, index), algorithm, bytes)
		if err != nil {
			return err
		}
		defer end()
		component, check, err := entry.Take()
		if err != nil {
			return err
		}
		defer component.Destroy()
		if p, err = s.Submit(cmd.Context(), p, own, index, component); err != nil {
			return err
		}
		if asJSON, _ := out.json(); !asJSON {
			fmt.Printf("\n%s, check value %s, was handed in\n", officer.PlaceName(p.Definition, index), check)
		}
		return s.report(p, &out)
	}
	return c
}

// approvalFlags are how a script approves.
type approvalFlags struct {
	checkValue string
	yes        bool
}

func (a *approvalFlags) flags(c *cobra.Command) {
	c.Flags().StringVar(&a.checkValue, "check-value", "", "check value of the whole key from the letter that came with it, in place of the question")
	c.Flags().BoolVarP(&a.yes, "yes", "y", false, "do not ask, where there is no check value")
}

func ceremonyApprove() *cobra.Command {
	var d desk
	var out output
	var approval approvalFlags
	var definition string
	c := &cobra.Command{
		Use:   "approve ID",
		Short: "Review a ceremony and approve it",
		Long: `Shows what the ceremony does and who entered which component, and asks: type the check value
of the whole key, which is not shown, from the letter that came with the key, or yes where
there is none. The last approval that is needed carries the ceremony out.

With --definition it also compares your own copy of the definition.`,
		Example: `  keyd ceremony approve 4be1…9c --dir ./dev --as officer-2
  keyd ceremony approve 4be1…9c --definition load-zmk.yaml --check-value 08D7B4 --dir ./dev --as officer-3`,
		Args: oneCeremony,
	}
	d.flags(c)
	out.flag(c)
	approval.flags(c)
	c.Flags().StringVar(&definition, "definition", "", "your own copy of the definition")
	c.ValidArgsFunction = completeCeremonies(&d, keydv1.Ceremony_OPEN)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		s, p, err := d.papers(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		defer s.Close()
		if definition != "" {
			own, err := ceremony.Read(definition)
			if err != nil {
				return err
			}
			if err := p.Compare(own); err != nil {
				return err
			}
		}
		if p, err = s.approve(cmd.Context(), p, &approval, &out); err != nil {
			return err
		}
		return s.report(p, &out)
	}
	return c
}

// approve has the officer review the papers, and approves.
func (s *session) approve(ctx context.Context, p *officer.Papers, approval *approvalFlags, out *output) (*officer.Papers, error) {
	if err := p.MayApprove(s.Name(), time.Now()); err != nil {
		return nil, err
	}
	if err := review(out, p, asksCheckValue(p, approval)); err != nil {
		return nil, err
	}
	checkValue, err := p.Confirm(approval.checkValue, approval.yes)
	if err != nil {
		return nil, err
	}
	after, err := s.Approve(ctx, p, checkValue)
	if err != nil {
		return nil, err
	}
	if asJSON, _ := out.json(); !asJSON {
		fmt.Println()
	}
	return after, s.follow(after)
}

// follow confirms the roster that a ceremony which this officer has approved has brought.
func (s *session) follow(p *officer.Papers) error {
	if p.Record == nil || p.Definition.Kind != ceremony.Change {
		return nil
	}
	digest, err := p.Definition.Roster.Fingerprint()
	if err != nil {
		return err
	}
	roster, err := officer.ParseFingerprint(digest)
	if err != nil {
		return err
	}
	if err := s.known.Trust(s.name, s.Module.Identity, roster); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "keyd: the new roster, %s, which you have approved, is confirmed in %s; the other officers confirm it with keyd officer trust\n", roster, s.desk.known)
	return nil
}

func ceremonyAbort() *cobra.Command {
	var d desk
	var out output
	var yes bool
	c := &cobra.Command{
		Use:     "abort ID",
		Short:   "Call a ceremony off for good",
		Long:    `Calls a ceremony off. Any officer may, and nobody can take it up again.`,
		Example: `  keyd ceremony abort 4be1…9c --dir ./dev --as officer-2`,
		Args:    oneCeremony,
	}
	d.flags(c)
	out.flag(c)
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	c.ValidArgsFunction = completeCeremonies(&d, keydv1.Ceremony_OPEN)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := d.sign(cmd.Context())
		if err != nil {
			return err
		}
		defer s.Close()
		p, err := s.Papers(cmd.Context(), args[0])
		if errors.Is(err, ceremony.ErrRosterChanged) || errors.Is(err, ceremony.ErrOfficer) || errors.Is(err, ceremony.ErrSignature) {
			p, err = s.OpeningOf(cmd.Context(), args[0]) // begun under another roster
		}
		if err != nil {
			return err
		}
		if err := review(&out, p, false); err != nil {
			return err
		}
		if !yes {
			err := officer.Ask(func(t *officer.Terminal) error { return t.Confirm("Call it off for good? (yes)", "yes") })
			if errors.Is(err, officer.ErrNoTerminal) {
				return fmt.Errorf("%w (--yes)", err)
			}
			if err != nil {
				return err
			}
		}
		if p, err = s.Abort(cmd.Context(), p); err != nil {
			return err
		}
		return s.report(p, &out)
	}
	return c
}
