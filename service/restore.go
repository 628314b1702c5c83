package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strconv"

	"keyd/ceremony"
	"keyd/config"
	"keyd/front"
	"keyd/hsm/module"
	"keyd/supervisor"
)

// How accounts' tries begin on a machine that has no velocity file.
const (
	TriesSpent = "spent" // used up
	TriesAnew  = "anew"  // none is used
)

// Restoration says from what a front's database is restored, and how its counters begin.
type Restoration struct {
	Backup   *os.File
	Counters string // front.CountersExhausted and its like
	Margin   uint64
	Logs     []*os.File // segments of audit logs, in their order
	Tries    string

	// Found is called when a token has vouched for the backup, before anything is written.
	Found func(*front.Found, *module.CheckAnswer)

	Log *slog.Logger
}

// Restore restores the database of a front that does not run. Four processes do it, one after
// the other: one with the front's user and confinement reads the backup; one with the token
// vouches for it; one like the first finds out whether anything stands in the way; and one more
// reads the backup into the database.
func Restore(ctx context.Context, c *config.Config, r *Restoration) (restored *front.Restored, tries string, err error) {
	users, err := separate(c, Options{Log: r.Log})
	if err != nil {
		return nil, "", err
	}
	found, err := runRestore[front.Found](ctx, c, r, users, nil, nil)
	if err != nil {
		return nil, "", err
	}
	answer, err := checkBackup(ctx, c, r, users, found)
	if err != nil {
		return nil, "", err
	}
	r.Found(found, answer)
	args := []string{"--digest", found.Digest, "--counters", r.Counters, "--margin", strconv.FormatUint(r.Margin, 10)}
	if _, err := runRestore[front.Restored](ctx, c, r, users, append(args, "--rehearse"), r.Logs); err != nil {
		return nil, "", err
	}
	// Before the database: a restored one never meets a file that remembers nothing.
	if tries, err = beginTries(c, r.Tries); err != nil {
		return nil, "", err
	}
	restored, err = runRestore[front.Restored](ctx, c, r, users, append(args, "--tries", tries), r.Logs)
	return restored, tries, err
}

// runRestore runs a process that reads the backup.
func runRestore[T any](ctx context.Context, c *config.Config, r *Restoration, users processUsers, more []string, logs []*os.File) (*T, error) {
	command := &supervisor.Command{
		Args: slices.Concat([]string{"internal", "restore", "--state", c.State}, databaseArgs(c), more), User: users.front,
		Files: []supervisor.Inherited{{Flag: "--backup-fd", File: r.Backup}},
	}
	for _, l := range logs {
		command.Files = append(command.Files, supervisor.Inherited{Flag: "--log-fd", File: l})
	}
	output, err := supervisor.RunAlone(ctx, supervisor.Config{Provision: command, Logger: r.Log})
	return answerOf[T](output, err)
}

// checkBackup asks the token about a backup.
func checkBackup(ctx context.Context, c *config.Config, r *Restoration, users processUsers, found *front.Found) (*module.CheckAnswer, error) {
	request, err := ceremony.Encode(&module.CheckRequest{Seal: found.Seal, Register: found.Register})
	if err != nil {
		return nil, err
	}
	input, err := memoryFile("keyd-backup", string(request))
	if err != nil {
		return nil, err
	}
	defer input.Close() //nolint:errcheck // gone with the last descriptor
	output, err := supervisor.RunOnce(ctx, supervisor.Config{
		Unlock:    supervisor.Command{Args: unlockArgs(c)},
		Provision: &supervisor.Command{Args: moduleArgs("check-backup", c, Options{}, users), Env: environment(c), User: users.module, Input: input},
		Logger:    r.Log,
	})
	return answerOf[module.CheckAnswer](output, err)
}

// answerOf reads what a process has put out.
func answerOf[T any](output *os.File, err error) (*T, error) {
	if err != nil {
		return nil, err
	}
	defer output.Close() //nolint:errcheck // read only
	if _, err := output.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(output)
	if err != nil {
		return nil, err
	}
	answer, err := ceremony.Decode[T](b, len(b))
	if err != nil {
		return nil, errors.New("a process of the restore did not answer")
	}
	return answer, nil
}

// beginTries makes the velocity file where there is none, and says how tries begin.
func beginTries(c *config.Config, how string) (said string, err error) {
	if !limited(c.Velocity) {
		return "not limited", nil
	}
	switch how {
	case TriesSpent:
		made, err := module.CreateSpentVelocity(c.Velocity.File, c.Velocity.Entries)
		if err != nil {
			return "", fmt.Errorf("velocity.file: %w", err)
		}
		if made {
			return "used up", nil
		}
	case TriesAnew:
		if err := module.RemoveUnusedVelocity(c.Velocity.File); err != nil {
			return "", fmt.Errorf("velocity.file: %w", err)
		}
		if _, err := os.Lstat(c.Velocity.File); errors.Is(err, fs.ErrNotExist) {
			return "begin anew", nil
		}
	default:
		return "", fmt.Errorf("tries are %s or %s, not %q", TriesSpent, TriesAnew, how)
	}
	return "as this machine has counted them", nil
}
