// Command bench is the load generator of make bench. It starts a real development
// service (mutual TLS, policy, audit log, KSN checks), drives it from this process as a
// switch does, and measures in the same run what the bare token makes of the same
// PKCS#11 calls and what an empty gRPC call costs on this machine.
//
// Rules. Every request is a new one: simulated terminals, each with an initial key and a
// counter of its own, encipher the PIN of another card for each. A terminal has one call
// under way at most. Requests are made before a measurement, never during one, but for voids,
// whose MACs are over what was answered before. A wrong
// answer or an error ends the run: a rate of wrong answers is no rate. The load goes to
// 127.0.0.1 only, and what was started is stopped, whatever ends the run.
//
// Units. Rates are operations a second, latencies milliseconds, processor time
// microseconds an operation, memory MiB. Latencies of a closed loop count from sending;
// those of a paced load from when the request was due, so that a stall is seen by every
// request that it delays.
//
// Figures depend on the machine and on who else uses it: compare within a run.
// bench stands above the service and is no part of it: only here, on the terminal's
// side, do PIN blocks and the keys of a load exist in the clear, and all are published.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	keyd          string        // binary to measure
	length        time.Duration // of each measurement
	underWay      int           // calls at once
	perConnection int           // calls that share a connection
	terminals     int           // where their number is not what is measured
	age           int           // transactions that terminals have behind them, at most
	accounts      int           // cards
	enrol         int           // terminals that get keys; 0: none
	subjects      int           // whose PINs keyd keeps; 0: none
	ksn           string        // what BDKs say about their KSNs
	full          bool
	only          *regexp.Regexp
	keep          bool
	profile       string
	against       string // another binary
	progress      io.Writer
}

func main() {
	var o options
	var only, format, page, empty string
	var limit time.Duration
	flag.StringVar(&o.keyd, "keyd", "bin/keyd", "the binary to measure")
	flag.DurationVar(&o.length, "length", 2*time.Second, "length of each measurement")
	flag.IntVar(&o.underWay, "calls", 512, "calls under way at once in a closed loop")
	flag.IntVar(&o.perConnection, "per-connection", 64, "calls that share a connection")
	flag.IntVar(&o.terminals, "terminals", 1000, "terminals, where their number is not what is measured")
	flag.IntVar(&o.age, "age", 10_000, "each terminal starts at a random counter up to this one")
	flag.IntVar(&o.accounts, "accounts", 1_000_000, "cards, used one after the other")
	flag.IntVar(&o.enrol, "enrol", 10_000, "terminals that are registered, get their keys and make a transaction; 0 for none")
	flag.IntVar(&o.subjects, "subjects", 1000, "supervisors whose PINs keyd keeps, for PIN records and voids on both databases; 0 for neither")
	flag.StringVar(&o.ksn, "ksn", "monotonic", `KSN checks of the BDKs: "monotonic", or "off" for a keyd that has none`)
	flag.BoolVar(&o.full, "full", false, "also 100,000 terminals and 100,000 keys, which takes several minutes")
	flag.StringVar(&only, "only", "", "regular expression: measure the scenarios whose names it matches")
	flag.BoolVar(&o.keep, "keep", false, "keep the directory of the services, and say where it is")
	flag.StringVar(&o.profile, "profile", "", "build keyd for profiling and leave CPU profiles of front and modules in this directory")
	flag.StringVar(&o.against, "against", "", "another binary, of before a change say, which takes turns with this one")
	flag.StringVar(&format, "o", "text", "what standard output gets: text or json")
	flag.StringVar(&page, "write", "", "write the page of results to this file (docs/performance.md)")
	flag.DurationVar(&limit, "limit", 30*time.Minute, "end the run, with an error, after this time")
	flag.StringVar(&empty, "serve-empty", "", "internal: serve empty calls with the certificates of this development directory")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	o.progress = os.Stderr
	err := func() error {
		if empty != "" {
			return serveEmpty(ctx, empty, os.Stdout)
		}
		if err := o.check(only, format, page, flag.Args()); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the run took longer than -limit %v", limit))
		defer cancel()
		return report(ctx, o, format, page, os.Stdout)
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// check refuses flags that make no measurement.
func (o *options) check(only, format, page string, rest []string) (err error) {
	if only != "" {
		if o.only, err = regexp.Compile(only); err != nil {
			return fmt.Errorf("-only: %w", err)
		}
	}
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q", rest[0])
	case o.length < 10*time.Millisecond || o.length > time.Minute:
		return errors.New("-length must be from 10ms to 1m")
	case o.underWay < 1 || o.underWay > 4096:
		return errors.New("-calls must be from 1 to 4096")
	case o.perConnection < 1 || o.perConnection > 200: // the server reads 256 items of a stream ahead
		return errors.New("-per-connection must be from 1 to 200")
	case o.terminals < 1 || o.terminals > maxTerminals:
		return fmt.Errorf("-terminals must be from 1 to %d", maxTerminals)
	case o.age < 1 || o.age > 1_000_000:
		return errors.New("-age must be from 1 to 1,000,000: a TDES terminal has no more transactions")
	case o.accounts < 1 || o.accounts > 1_000_000_000:
		return errors.New("-accounts must be from 1 to 1,000,000,000")
	case o.enrol != 0 && o.enrol < len(methods) || o.enrol > 100_000:
		return fmt.Errorf("-enrol must be 0, or from %d to 100,000", len(methods))
	case o.subjects < 0 || o.subjects > 100_000:
		return errors.New("-subjects must be from 0 to 100,000")
	case o.ksn != "monotonic" && o.ksn != "off":
		return errors.New("-ksn must be monotonic or off")
	case format != "text" && format != "json":
		return errors.New("-o must be text or json")
	case page != "" && only != "":
		return errors.New("-write needs the whole run: leave -only out")
	}
	return nil
}

// report measures and says what was found.
func report(ctx context.Context, o options, format, page string, out io.Writer) error {
	r, err := run(ctx, o)
	if err != nil {
		return err
	}
	if format == "json" {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		err = e.Encode(r)
	} else {
		err = printTables(out, r)
	}
	if err != nil || page == "" {
		return err
	}
	return writePage(page, r)
}
