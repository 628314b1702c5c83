package policies

import _ "embed"

// Dev is the policy of a development service, trust domain dev.keyd: the identity
// switch may call every data operation with every key, officers and the auditor may
// read the status, terminals may call nothing.
//
//go:embed dev.yaml
var Dev []byte

// Example is a commented policy to start a production policy from. Its trust domain,
// identities and key names are made up, so it allows nothing as it is.
//
//go:embed example.yaml
var Example []byte
