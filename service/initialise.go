package service

import (
	"context"
	"log/slog"

	"keyd/ceremony"
	"keyd/config"
	"keyd/hsm/module"
	"keyd/supervisor"
)

// Initialise carries out one step in which a production token gets its roster and master
// keys: the unlock child and one with the token run, and nothing else.
func Initialise(ctx context.Context, c *config.Config, request *module.InitRequest, log *slog.Logger) (*module.InitAnswer, error) {
	users, err := separate(c, Options{Log: log})
	if err != nil {
		return nil, err
	}
	encoded, err := ceremony.Encode(request)
	if err != nil {
		return nil, err
	}
	input, err := memoryFile("keyd-init", string(encoded))
	if err != nil {
		return nil, err
	}
	defer input.Close() //nolint:errcheck // gone with the last descriptor
	unlock, vaultFiles, err := unlockOnly(c)
	if err != nil {
		return nil, err
	}
	defer vaultFiles.Close() //nolint:errcheck // gone with the last descriptor
	output, err := supervisor.RunOnce(ctx, supervisor.Config{
		Unlock:    unlock,
		Provision: &supervisor.Command{Args: moduleArgs("init", c, Options{}, users), Env: environment(c), User: users.module, Input: input},
		Logger:    log,
	})
	return answerOf[module.InitAnswer](output, err)
}
