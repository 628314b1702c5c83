package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"keyd/ceremony"
	"keyd/config"
	"keyd/hsm/module"
	"keyd/officer"
	"keyd/service"
)

func initCommand() *cobra.Command {
	var path, definition, request, record string
	var accepted []string
	c := &cobra.Command{
		Use:     "init",
		GroupID: "service",
		Short:   "Give a token its officers and master keys, once",
		Long: `Gives a new token its first roster of officers and its master keys, in two steps at the
machine. It takes the token's PIN, like starting the service.

1. With --definition it makes the token's identity and writes a request, which each officer
   answers on a machine of their own (keyd officer accept).
2. With --accepted, once for each officer, it makes the master keys of the officers' shares
   inside the token. The shares leave the officers' machines sealed to the token; whoever
   has enough of them can give a second token the same master keys.

Every officer compares both fingerprints that step 1 prints before accepting. A first step
that is made again makes every request before it worthless.`,
		Example: `  keyd init --config /etc/keyd/keyd.yaml --definition init.yaml --request keyd.request
  keyd init --config /etc/keyd/keyd.yaml --request keyd.request \
      --accepted alice.accept --accepted bob.accept --accepted carol.accept --record init.record`,
		Args: cobra.NoArgs,
	}
	configFlag(c, &path)
	f := c.Flags()
	f.StringVar(&definition, "definition", "", "step 1: definition of kind init, with the officers, the quorum and the holders of shares")
	f.StringVar(&request, "request", "", "file of the request: step 1 makes it, step 2 reads it")
	f.StringArrayVar(&accepted, "accepted", nil, "step 2: an officer's acceptance; once for each officer")
	f.StringVar(&record, "record", "", "step 2: file that is made for the record (default: the request's name with .record)")
	c.MarkFlagsMutuallyExclusive("definition", "accepted")
	c.MarkFlagsOneRequired("definition", "accepted")
	if err := c.MarkFlagRequired("request"); err != nil {
		panic(err) // the flag is defined above
	}
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		loaded, err := config.Load(path)
		if err != nil {
			return err
		}
		if definition != "" {
			return initRequest(cmd, loaded, definition, request)
		}
		if record == "" {
			record = request + ".record"
		}
		return initFinish(cmd, loaded, request, accepted, record)
	}
	return c
}

// initRequest is the first step.
func initRequest(cmd *cobra.Command, loaded *config.Config, definition, request string) error {
	own, err := ceremony.Read(definition)
	if err != nil {
		return err
	}
	if own.Kind != ceremony.Init {
		return fmt.Errorf("%s: a definition of kind init is wanted, this one is of kind %s", definition, own.Kind)
	}
	encoded, err := ceremony.Encode(own)
	if err != nil {
		return err
	}
	// Before the token is asked: its answer makes an earlier request worthless.
	file, err := createNew(request, 0o644)
	if err != nil {
		return err
	}
	answer, err := service.Initialise(cmd.Context(), loaded, &module.InitRequest{Definition: encoded}, logger())
	if err == nil && answer.Opening == nil {
		err = errors.New("the token opened nothing")
	}
	if err != nil {
		file.discard()
		return err
	}
	made := officer.Request{Identity: answer.Identity, Opening: *answer.Opening, Definition: encoded}
	text, err := made.Encode()
	if err != nil {
		file.discard()
		return err
	}
	a, err := officer.ParseRequest(text)
	if err == nil {
		err = a.Compare(own)
	}
	if err != nil {
		file.discard()
		return err
	}
	if err := file.finish(text); err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	row(w, "request", request)
	row(w, "identity", a.Identity.String())
	row(w, "roster", a.Roster.String())
	row(w, "until", officer.At(a.Opening.Expires))
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Printf(`
Give every officer the request and the two fingerprints, the latter on paper or by
telephone. Each runs, on a machine of their own:

`)
	for _, name := range officer.Names(own.Roster) {
		share := ""
		if a.Share(name) != 0 && own.CheckValue == "" {
			share = " --new"
		} else if a.Share(name) != 0 {
			share = " --written" // another token has these master keys: their shares are on paper
		}
		fmt.Printf("  keyd officer accept --request %s --definition %s --officer-key %s.key --out %s.accept%s\n", request, definition, name, name, share)
	}
	fmt.Printf(`
--new makes a share of the master keys, which is written down; with --written the holder of
a share types one from paper. Then, here:

  keyd init --config FILE --request %s --accepted %s.accept
`, request, strings.Join(officer.Names(own.Roster), ".accept --accepted "))
	return nil
}

// initFinish is the second step.
func initFinish(cmd *cobra.Command, loaded *config.Config, request string, accepted []string, record string) error {
	text, err := os.ReadFile(request)
	if err != nil {
		return err
	}
	a, err := officer.ParseRequest(text)
	if err != nil {
		return fmt.Errorf("%s: %w", request, err)
	}
	var acceptances []*officer.Acceptance
	for _, path := range accepted {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		one, err := officer.ParseAcceptance(text)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		acceptances = append(acceptances, one)
	}
	papers, err := a.Gather(acceptances, time.Now())
	if err != nil {
		return err
	}
	file, err := createNew(record, 0o644)
	if err != nil {
		return err
	}
	answer, err := service.Initialise(cmd.Context(), loaded, &module.InitRequest{Papers: papers}, logger())
	if err == nil && answer.Record == nil {
		err = errors.New("the token gave no record")
	}
	if err != nil {
		file.discard()
		return err
	}
	text, err = officer.EncodeRecordFile(answer.Identity, *answer.Record)
	if err != nil {
		file.discard()
		return err
	}
	if err := file.finish(text); err != nil {
		return err
	}
	account, err := officer.VerifyRecordFile(text, a.Identity)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	row(w, "master keys", fmt.Sprintf("generation %d, check value %s", a.Definition.MasterKeys.FirstGeneration(), account.Outcome.Masters))
	row(w, "identity", account.Identity.String())
	row(w, "roster", account.Roster.String())
	row(w, "record", record)
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Println(`
Note down the check value and both fingerprints, and keep the record: it proves who did
this. The shares on paper make the same master keys in a second token; lock them away
apart from each other. The service can be started now: keyd serve --config FILE`)
	return nil
}

func officerAccept() *cobra.Command {
	var key signingKey
	var share componentFlags
	var request, definition, out, name, knownFile, server, identity, roster string
	c := &cobra.Command{
		Use:   "accept",
		Short: "Accept a new token, and seal a share of its master keys",
		Long: `Answers the request of a new token (keyd init), without any network. It compares the request
with your own copy of the definition, shows the fingerprints of the token's identity and
of the roster, which you compare with the other officers, and signs your acceptance. If
the definition names you as a holder of a share of the master keys, it makes one (--new)
or has you type the one on your paper, line by line with the digits that check it (--written);
with neither, in plain hex. It seals the share to the token.

What you confirm is kept in the file --known, under --server.`,
		Example: `  keyd officer accept --request keyd.request --definition init.yaml \
      --officer-key alice.key --out alice.accept --new --server keyd.example:7443`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.StringVar(&request, "request", "", "the request that keyd init has made")
	f.StringVar(&definition, "definition", "", "your own copy of the definition")
	f.StringVar(&out, "out", "", "file that is made for the acceptance")
	f.StringVar(&name, "officer", "", "your name in the roster (default: the officer whose key this is)")
	f.StringVar(&knownFile, "known", "", "file of the modules that you have confirmed (default ~/.config/keyd/known.json)")
	f.StringVar(&server, "server", "", "HOST:PORT at which you will reach the service (without it, confirm the service with keyd officer trust too)")
	f.StringVar(&identity, "identity", "", "the identity's fingerprint as you have it from elsewhere, in place of the question")
	f.StringVar(&roster, "roster", "", "the roster's fingerprint likewise")
	key.flags(c)
	share.flags(c, "share")
	for _, name := range []string{"request", "definition", "out"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err) // the flag is defined above
		}
	}
	c.RunE = func(*cobra.Command, []string) error {
		own, err := ceremony.Read(definition)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(request)
		if err != nil {
			return err
		}
		a, err := officer.ParseRequest(text)
		if err != nil {
			return fmt.Errorf("%s: %w", request, err)
		}
		if err := errors.Join(a.Compare(own), a.Expired(time.Now())); err != nil {
			return err
		}
		if knownFile == "" {
			if knownFile, err = officer.DefaultKnown(); err != nil {
				return err
			}
		}
		known, err := officer.Load(knownFile)
		if err != nil {
			return err
		}
		file, err := createNew(out, 0o644)
		if err != nil {
			return err
		}
		done := false
		defer func() {
			if !done {
				file.discard()
			}
		}()

		w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		writeLines(w, officer.Describe(own))
		row(w)
		row(w, "identity", a.Identity.String())
		row(w, "roster", a.Roster.String())
		row(w, "until", officer.At(a.Opening.Expires))
		if err := w.Flush(); err != nil {
			return err
		}
		if err := officer.ConfirmModule("\nDo the other officers have the same identity and roster? (yes)", a.Identity, a.Roster, identity, roster); err != nil {
			return err
		}
		signer, end, err := key.open()
		if err != nil {
			return err
		}
		defer end()
		if name == "" {
			if name, err = officer.Whose(own.Roster, signer); err != nil {
				return err
			}
		}
		var secret *officer.Secret
		if index := a.Share(name); index != 0 {
			entry, end, err := share.entry(officer.PlaceName(own, index), "A", ceremony.MasterShareSize)
			if err != nil {
				return err
			}
			defer end()
			var check string
			if secret, check, err = entry.Take(); err != nil {
				return err
			}
			defer secret.Destroy()
			fmt.Printf("share %d has the check value %s\n", index, check)
		} else if share.given() {
			return fmt.Errorf("%s holds no share of the master keys: leave out --new and the descriptors", name)
		}
		accepted, err := a.Accept(own, name, signer, secret, time.Now())
		if err != nil {
			return err
		}
		text, err = accepted.Encode()
		if err != nil {
			return err
		}
		under := server
		if under == "" {
			under = "new token " + a.Identity.String()[:9]
		}
		if err := known.Trust(under, a.Identity, a.Roster); err != nil {
			return err
		}
		done = true
		if err := file.finish(text); err != nil {
			return err
		}
		fmt.Printf("%s has accepted: take %s to the machine\nconfirmed as %q in %s\n", name, out, under, knownFile)
		return nil
	}
	return c
}
