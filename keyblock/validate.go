package keyblock

import "strings"

// Validate tells whether the fields of a header are of the standard and fit each other:
// usage, algorithm, mode of use, exportability and key context each stand in their table,
// and the usage's row has the algorithm and the mode. It returns [ErrUsage], [ErrAlgorithm],
// [ErrMode], [ErrExportability], [ErrContext], [ErrUsageAlgorithm] or [ErrUsageMode].
//
// A proprietary algorithm or mode, a digit, fits every usage. Optional blocks are for
// [Header.CheckBlocks].
func (h *Header) Validate() error {
	if CipherBlock(h.Version) == 0 {
		return ErrVersion
	}
	usage, known := LookUpUsage(h.Usage)
	switch {
	case !known:
		return ErrUsage
	case AlgorithmName(h.Algorithm) == "":
		return ErrAlgorithm
	case ModeName(h.Mode) == "":
		return ErrMode
	case ExportabilityName(h.Exportability) == "":
		return ErrExportability
	case len(h.Reserved) != 2 || ContextName(h.Reserved[0]) == "" || h.Reserved[1] != '0':
		return ErrContext
	case proprietary(h.Algorithm) == "" && !strings.Contains(usage.Algorithms, string(h.Algorithm)):
		return ErrUsageAlgorithm
	case proprietary(h.Mode) == "" && !strings.Contains(usage.Modes, string(h.Mode)):
		return ErrUsageMode
	}
	return nil
}
