package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"keyd/development/injecting"
	"keyd/store/postgrestest"
	"keyd/voidtoken"
)

// PINs of PIN records, and voids that they authorise, on both databases. Each try of such a PIN is
// counted on the disk before a module compares: what that costs shows beside a PVV, of which nothing
// is counted, and beside what a module takes by itself. The services take turns.

// The databases.
const (
	sqlite   = "SQLite"
	postgres = "PostgreSQL"
)

// recordService is a service on one database, with subjects that have PINs.
type recordService struct {
	target

	database  string
	dev       string
	workloads []*recordLoad
	cards     *workload // AES terminals for cardholders' PINs
	pads      *workload // AES terminals for supervisors' PINs
	keys      voidtoken.Keys
}

// recordLoad is what is asked of the services in turn.
type recordLoad struct {
	name     string
	workload *workload
	underWay int
	total    figures
}

// hot is how many calls of one subject are under way at once: with a third the tries that are under
// way would be all that there are, and the subject is blocked as long as that lasts.
const hot = 2

// recordTurns is how often each service is measured.
const recordTurns = 3

// The scenarios.
const (
	recordScenario = "PINs of PIN records"
	voidScenario   = "voids"
)

// records measures PINs of PIN records and voids, with n subjects.
func (r *runner) records(n int) (err error) {
	if n == 0 {
		return nil
	}
	pins, voids := r.wants(recordScenario), r.wants(voidScenario)
	if !pins && !voids {
		return nil
	}
	if pins {
		r.say("    the module by itself")
		if r.results.Alone, err = measureAlone(r.ctx, r.length); err != nil {
			return err
		}
	}
	server, err := postgrestest.StartIn(r.dir) // the disk that the other database has, too
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	var services []*recordService
	defer func() {
		for _, s := range services {
			err = errors.Join(err, s.server.stop())
			if err == nil && r.profile != "" {
				_, err = copyProfiles(s.dev, filepath.Join(r.profile, s.database))
			}
		}
	}()
	for _, database := range []string{sqlite, postgres} {
		s, err := r.startRecords(database, server, n, &services)
		if err != nil {
			return fmt.Errorf("on %s: %w", database, err)
		}
		if err := s.prepare(r, n); err != nil {
			return fmt.Errorf("on %s: %w", database, err)
		}
	}
	if pins {
		if err := r.recordPINs(services); err != nil {
			return err
		}
	}
	if voids {
		return r.voids(services)
	}
	return nil
}

func (r *runner) startRecords(database string, on *postgrestest.Server, n int, all *[]*recordService) (*recordService, error) {
	r.say("    starting keyd on %s", database)
	var flags []string
	if database == postgres {
		name, err := on.Create(r.ctx)
		if err != nil {
			return nil, err
		}
		flags = []string{"--postgres", on.Address, "--postgres-database", name, "--postgres-password-file", on.PasswordFile}
	}
	dir := filepath.Join(r.dir, "records-"+database)
	started, err := startService(r.ctx, &r.options, r.binary, dir, fixedKeys(r.ksn), flags...)
	if err != nil {
		return nil, err
	}
	s := &recordService{database: database, dev: filepath.Join(dir, "dev"), target: target{server: started}}
	*all = append(*all, s)
	if s.target, _, err = newTarget(r.ctx, &r.options, started); err != nil {
		return nil, err
	}
	s.drains = true
	for _, l := range []struct {
		operation operation
		key       string
		hot       bool
	}{{tdesVerify, bdkTDES, false}, {aesVerify, bdkAES, false}, {tdesRecord, bdkTDESRecords, false}, {aesRecord, bdkAESRecords, false}, {tdesRecord, bdkTDESRecords, true}, {aesRecord, bdkAESRecords, true}} {
		load := &recordLoad{name: l.operation.String(), underWay: r.underWay}
		terminals, subjects := n, n
		if l.hot {
			load.name, terminals, subjects, load.underWay = load.name+", one subject", hot, 1, hot
		}
		if load.workload, err = s.workload(r, l.operation, l.key, terminals, subjects); err != nil {
			return nil, err
		}
		s.workloads = append(s.workloads, load)
	}
	if s.pads, err = s.workload(r, aesRecord, bdkAESRecords, n, n); err != nil {
		return nil, err
	}
	s.cards, err = s.workload(r, aesVerify, bdkAES, n, n)
	return s, err
}

// workload returns one with terminals that no other of the service has.
func (s *recordService) workload(r *runner, o operation, key string, terminals, subjects int) (*workload, error) {
	w, err := newWorkload(o, key, terminals, r.age, r.cards)
	if err != nil {
		return nil, err
	}
	for i := range subjects {
		w.subjects = append(w.subjects, newSubject(i))
	}
	used := 0
	for _, other := range s.workloads {
		used += len(other.workload.counters)
	}
	if s.pads != nil {
		used += len(s.pads.counters)
	}
	w.first = uint32(used)
	return w, nil
}

// prepare has officers make what voids need, and the subjects get their PINs.
func (s *recordService) prepare(r *runner, n int) error {
	for _, what := range []string{"pin", "void"} {
		prepare := exec.CommandContext(r.ctx, r.binary, what, "prepare", "--dir", s.dev)
		if out, err := prepare.CombinedOutput(); err != nil {
			return fmt.Errorf("keyd %s prepare: %w\n%s", what, err, out)
		}
	}
	text, err := os.ReadFile(filepath.Join(s.dev, injecting.VoidsDir, "void-tokens.pem"))
	if err != nil {
		return err
	}
	if s.keys, err = voidtoken.ParseKeys(text); err != nil {
		return err
	}
	by, err := readApprovers(s.dev)
	if err != nil {
		return err
	}
	hands, err := s.server.dial("officer-1")
	if err != nil {
		return err
	}
	defer hands.Close() //nolint:errcheck // the answers are there
	_, err = r.together("subjects enrolled", n, 16*runtime.NumCPU(), s.processes, func(ctx context.Context, i int) error {
		return by.enrolSubject(ctx, hands, s.server.conns[i%len(s.server.conns)], s.pads, i)
	})
	return err
}

// recordPINs has the services verify PINs in turn.
func (r *runner) recordPINs(services []*recordService) error {
	for i := range services[0].workloads {
		for range recordTurns {
			for _, s := range services {
				l := s.workloads[i]
				f, err := s.measureClosed(r.ctx, l.workload, unary, l.underWay, r.length/2, false)
				if err != nil {
					return fmt.Errorf("%s on %s: %w", l.name, s.database, err)
				}
				add(&l.total, &f, recordTurns)
			}
		}
		for _, s := range services {
			f := s.workloads[i].total
			f.Name, f.Database = s.workloads[i].name, s.database
			r.say("    %s, on %s:", f.Name, f.Database)
			r.told(f)
			r.results.Records = append(r.results.Records, f)
		}
	}
	return nil
}

// atCounters is how many shops void something at the same moment, at most.
const atCounters = 64

// voids has shops void payments on the services in turn.
func (r *runner) voids(services []*recordService) error {
	for _, kind := range voidKinds {
		all := make([]*voiding, len(services))
		shops := make([][]*shop, len(services))
		found := make([]voidFigures, len(services))
		for i, s := range services {
			var err error
			all[i] = newVoiding(s.target, kind, s.pads, s.cards, s.keys, fmt.Sprintf("v%d", len(kind.methods)))
			if shops[i], err = all[i].shops(min(r.underWay, atCounters)); err != nil {
				return err
			}
		}
		for range recordTurns {
			for i, s := range services {
				if err := all[i].measure(r.ctx, shops[i], max(r.length, 100*time.Millisecond), &found[i], recordTurns); err != nil {
					return fmt.Errorf("on %s: %w", s.database, err)
				}
			}
		}
		for i, s := range services {
			f := &found[i]
			f.Name, f.Database = "voids, "+kind.name, s.database
			r.say("    %s, on %s:", f.Name, f.Database)
			r.told(f.figures)
			r.results.Voids = append(r.results.Voids, *f)
		}
	}
	return nil
}
