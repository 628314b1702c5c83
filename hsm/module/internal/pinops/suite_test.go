package pinops_test

import (
	"testing"

	"keyd/hsm/module/internal/pinops/pinopstest"
	"keyd/hsm/module/internal/token/tokentest"
)

// TestSuite compares what the engine does with SoftHSM, in the module's memory, with the reference.
func TestSuite(t *testing.T) { pinopstest.Suite(t, tokentest.SoftHSM(t).Open(t, 4)) }
