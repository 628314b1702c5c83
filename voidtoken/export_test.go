package voidtoken

// What tests look at from outside.
var (
	Binary = (*Fields).binary
	Parse  = parse
)

// Encode is the one encoding of a token.
func Encode(t *Token) ([]byte, error) { return t.encode() }

// Currencies returns all numbers of currencies.
func Currencies() (all []Currency) {
	for c := range currencies {
		all = append(all, c)
	}
	return all
}
