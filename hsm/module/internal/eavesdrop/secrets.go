package eavesdrop

import (
	"encoding/hex"
	"fmt"
	"index/suffixarray"
	"math"
	"sort"
	"strings"
)

// Secret is something that nobody who listens may know, in hex digits. One of few digits, or of
// many that are likely, is among any others by chance: then Decoys has as likely ones that are none, and what counts is how often either are found.
type Secret struct {
	Kind   string // "PIN, two digits a byte": those of one kind are judged together
	What   string // whose
	Digits string
	Decoys []string

	// From and To are the calls of its operation, see [Recording.Calls], among which one with decoys is
	// looked for; zero: among all.
	From, To int
}

// certain is how many hex digits are in nothing by chance.
const certain = 12

// Finding is a secret that somebody knows.
type Finding struct {
	Secret
	Where string // the call that it is in, or whose object it is
}

// String never tells the secret.
func (f Finding) String() string { return fmt.Sprintf("%s of %s: %s", f.Kind, f.What, f.Where) }

// Find computes what follows from what was heard, and returns the secrets in it, and what it could not
// compute, which is as bad.
func (w *Wire) Find(secrets []Secret) (found []Finding, problems []string) {
	w.follow()
	text, at := w.text()
	index := suffixarray.New(text)
	const most = 8 // places of one secret that are told
	chance := map[string][2]float64{}
	looked := map[[2]string]bool{}
	for _, s := range secrets {
		digits := strings.ToLower(s.Digits)
		sure := len(digits) >= certain && len(s.Decoys) == 0
		if once := [2]string{s.Kind, digits}; sure {
			if looked[once] {
				continue // a key of several operations
			}
			looked[once] = true
		}
		if sure {
			for _, place := range index.Lookup([]byte(digits), most) {
				found = append(found, Finding{s, at(place).where})
			}
			continue
		}
		if len(s.Decoys) == 0 {
			problems = append(problems, fmt.Sprintf("%s of %s has %d digits and no decoys", s.Kind, s.What, len(digits)))
			continue
		}
		among := func(digits string) float64 { // once for each: zeros, as a PIN, are found by the dozen
			for _, place := range index.Lookup([]byte(strings.ToLower(digits)), -1) {
				if number := at(place).call; s.To == 0 || number >= s.From && number <= s.To {
					return 1
				}
			}
			return 0
		}
		n := chance[s.Kind]
		n[0] += among(digits)
		for _, decoy := range s.Decoys {
			n[1] += among(decoy) / float64(len(s.Decoys))
		}
		chance[s.Kind] = n
	}
	for kind, n := range chance {
		if most := n[1] + 8*math.Sqrt(n[1]+1); n[0] > most {
			found = append(found, Finding{Secret{Kind: kind, What: "some operation"}, fmt.Sprintf("%.0f are found, and of as likely ones %.1f", n[0], n[1])})
		}
	}
	sort.SliceStable(found, func(i, j int) bool { return found[i].String() < found[j].String() })
	return found, append(problems, w.problems...)
}

// passage is where a part of the text is from.
type passage struct {
	where string
	call  int
	start int
}

// text is all that is known, as hex digits with points for what is not, and says where a place is from.
func (w *Wire) text() (text []byte, at func(int) passage) {
	var passages []passage
	add := func(call int, where, digits string) {
		if strings.Trim(digits, ".") != "" {
			passages = append(passages, passage{where, call, len(text)})
			text = append(append(text, digits...), ' ')
		}
	}
	for _, b := range w.buffers {
		add(b.call, b.where, hex.EncodeToString(b.value))
	}
	for _, o := range w.all {
		add(o.call, "what "+o.made+" made", o.known.hex())
	}
	return text, func(place int) passage {
		return passages[sort.Search(len(passages), func(i int) bool { return passages[i].start > place })-1]
	}
}

// Objects is of how many objects that were made since the mark something is known, and how many there are.
func (w *Wire) Objects() (known, all int) {
	w.follow()
	for _, o := range w.all {
		if o.call <= w.before {
			continue
		}
		all++
		if o.known.unknown() < len(o.known) {
			known++
		}
	}
	return known, all
}
