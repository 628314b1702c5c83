package main

import (
	"github.com/spf13/cobra"

	"keyd/development/injecting"
)

func simulatePrepare() *cobra.Command {
	return prepares(&cobra.Command{
		Use:   "prepare",
		Short: "Make a development service ready to give terminals keys",
		Long: `Does what operators and officers do for a service in production: it makes an authority of a
maker of terminals (DIR/maker) and one of key hosts (DIR/hosts), has the development officers
believe both and make two key pairs in the token, by the same ceremonies as elsewhere, has the
pairs certified, and adds the key hosts kdh-ec and kdh-rsa and the key sets dev-aes and
dev-tdes. Of these each has an initial key for PINs of supervisors; where its base derivation
key is missing, officers make that too. What is there stays.`,
		Example: `  keyd terminal simulate prepare --dir ./dev`,
	}, injecting.Prepare)
}
