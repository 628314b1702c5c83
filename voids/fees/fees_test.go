package fees

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"reflect"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"pgregory.net/rapid"

	"keyd/voidtoken"
)

func TestStandard(t *testing.T) {
	table := Standard()
	if err := table.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		category     Category
		amount, want int64 // fen
	}{
		{StandardMerchant, 10000, 60}, {Concession, 10000, 38}, {PublicWelfare, 10000, 0}, {DebitCard, 10000, 50}, {QR, 10000, 38}, {UnionPayQR, 10000, 60},
		// The example of the source in the package comment: 100 CNY, of which 20 are refunded: 0.48.
		{StandardMerchant, 8000, 48},
		// The cap of debit cards is reached at 5,000 CNY; others have none.
		{DebitCard, 499_899, 2499}, {DebitCard, 499_900, 2500}, {DebitCard, 500_000, 2500}, {DebitCard, 500_001, 2500}, {DebitCard, math.MaxInt64, 2500}, {StandardMerchant, 100_000_000, 600_000},
		// Half up: 0.5 fen is 1, anything less is 0; 1.5 is 2 and 2.5 is 3, where half to even has 2.
		{StandardMerchant, 1, 0}, {StandardMerchant, 83, 0}, {StandardMerchant, 84, 1}, {DebitCard, 99, 0}, {DebitCard, 100, 1}, {DebitCard, 299, 1}, {DebitCard, 300, 2}, {DebitCard, 499, 2}, {DebitCard, 500, 3},
		{QR, 131, 0}, {QR, 132, 1}, {Concession, 12345, 47}, // 46.911
		// Nothing overflows.
		{StandardMerchant, math.MaxInt64, 55340232221128655}, {PublicWelfare, math.MaxInt64, 0},
	} {
		got, err := table.Fee("merchant-8", c.category, c.amount, voidtoken.CNY)
		if err != nil || got != c.want {
			t.Errorf("%s of %d: %d, %v; want %d", c.category, c.amount, got, err, c.want)
		}
	}
	if len(table.Categories) != len(Categories()) {
		t.Errorf("%d of %d categories have a rule", len(table.Categories), len(Categories()))
	}
}

const example = `
currency: 156
categories:
  standard: {rate: 0.60%}
  debit:
    rate: 0.50%
    cap: 2500
  public_welfare: {rate: 0.00%}
merchants:
  merchant-8:
    debit: {rate: 0.45%}
    qr: {rate: 0.2575%, cap: 100}
`

func fromYAML(text string) (*Table, error) {
	table := new(Table)
	if err := yaml.UnmarshalWithOptions([]byte(text), table, yaml.Strict()); err != nil {
		return nil, err
	}
	return table, table.Validate()
}

func fromJSON(text string) (*Table, error) {
	table := new(Table)
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(table); err != nil {
		return nil, err
	}
	return table, table.Validate()
}

func TestMerchantsOfTheirOwn(t *testing.T) {
	table, err := fromYAML(example)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		merchant string
		category Category
		amount   int64
		want     int64
		err      error
	}{
		{"merchant-9", DebitCard, 1_000_000, 2500, nil},
		{"merchant-8", DebitCard, 1_000_000, 4500, nil}, // the cap goes with the rule that is replaced
		{"merchant-8", StandardMerchant, 10000, 60, nil},
		{"merchant-8", QR, 10000, 26, nil}, // 25.75
		{"merchant-8", QR, 1_000_000, 100, nil},
		{"merchant-9", QR, 10000, 0, ErrCategory}, // another merchant's rule is nobody else's
		{"merchant-8", Concession, 10000, 0, ErrCategory},
		{"merchant-8", "", 10000, 0, ErrCategory},
		{"merchant-8", "Standard", 10000, 0, ErrCategory},
		{"", StandardMerchant, 10000, 0, ErrMerchant},
		{"merchant 8", StandardMerchant, 10000, 0, ErrMerchant},
		{"merchant-8", StandardMerchant, 0, 0, ErrAmount},
		{"merchant-8", StandardMerchant, -1, 0, ErrAmount},
	} {
		got, err := table.Fee(c.merchant, c.category, c.amount, voidtoken.CNY)
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s, %s of %d: %d, %v; want %d, %v", c.merchant, c.category, c.amount, got, err, c.want, c.err)
		}
	}
	if fee, err := table.Fee("merchant-8", StandardMerchant, 10000, 344); !errors.Is(err, ErrCurrency) || fee != 0 {
		t.Errorf("in Hong Kong dollars: %d, %v", fee, err)
	}
	if fee, err := new(Table).Fee("merchant-8", StandardMerchant, 10000, 0); err == nil || fee != 0 {
		t.Errorf("an empty table: %d, %v", fee, err)
	}
	unset := &Table{Currency: voidtoken.CNY, Categories: map[Category]Rule{StandardMerchant: {}}}
	if fee, err := unset.Fee("merchant-8", StandardMerchant, 10000, voidtoken.CNY); !errors.Is(err, ErrTable) || fee != 0 {
		t.Errorf("a rule without a rate: %d, %v", fee, err)
	}
}

// Both forms say the same, there and back.
func TestForms(t *testing.T) {
	table, err := fromYAML(example)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(table)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(text, []byte(`"qr":{"rate":"0.2575%","cap":100}`)) {
		t.Errorf("%s", text)
	}
	again, err := fromJSON(string(text))
	if err != nil || !reflect.DeepEqual(again, table) {
		t.Errorf("%+v, %v", again, err)
	}
	if text, err = yaml.Marshal(table); err != nil {
		t.Fatal(err)
	}
	if again, err = fromYAML(string(text)); err != nil || !reflect.DeepEqual(again, table) {
		t.Errorf("%+v, %v:\n%s", again, err, text)
	}
	if text, err := json.Marshal(Rule{}); err == nil {
		t.Errorf("a rule without a rate is written as %s", text)
	}
}

func TestTablesThatAreNone(t *testing.T) {
	for what, text := range map[string]string{
		"nothing": "{}", "no currency": strings.Replace(example, "156", "0", 1), "gold": strings.Replace(example, "156", "959", 1),
		"a currency by letters": strings.Replace(example, "156", "CNY", 1), "a currency beyond": strings.Replace(example, "156", "65692", 1),
		"no categories": "currency: 156\ncategories: {}\n", "an unknown category": strings.Replace(example, "standard:", "standart:", 1),
		"an unknown category of a merchant": strings.Replace(example, "    qr:", "    qrcode:", 1),
		"an unknown field":                  example + "surcharge: 1\n", "an unknown field of a rule": strings.Replace(example, "cap: 100", "max: 100", 1),
		"no rate": strings.Replace(example, "{rate: 0.60%}", "{cap: 5}", 1), "an empty rule": strings.Replace(example, "{rate: 0.60%}", "{}", 1),
		"a null rate": strings.Replace(example, "{rate: 0.60%}", "{rate: null}", 1),
		"a number":    strings.Replace(example, "0.60%", "0.006", 1), "a negative rate": strings.Replace(example, "0.60%", "-0.60%", 1),
		"more than all": strings.Replace(example, "0.60%", "100.01%", 1), "a cap of 0": strings.Replace(example, "cap: 100", "cap: 0", 1),
		"a negative cap": strings.Replace(example, "cap: 100", "cap: -1", 1), "a broken cap": strings.Replace(example, "cap: 100", "cap: 25.00", 1),
		"a large cap": strings.Replace(example, "cap: 100", "cap: 9223372036854775808", 1), "a cap as text": strings.Replace(example, "cap: 100", `cap: "100"`, 1),
		"a merchant without rules": "currency: 156\ncategories: {qr: {rate: 0.38%}}\nmerchants: {m: {}}\n", "a merchant's name": strings.Replace(example, "merchant-8:", `"merchant 8":`, 1),
		"a category twice": strings.Replace(example, "  standard:", "  debit: {rate: 0.10%}\n  standard:", 1),
	} {
		if table, err := fromYAML(text); err == nil {
			t.Errorf("%s is read as %+v", what, table)
		}
	}
	for what, text := range map[string]string{
		"a rate as number": `{"currency":156,"categories":{"qr":{"rate":0.38}}}`, "no rate": `{"currency":156,"categories":{"qr":{"cap":1}}}`,
		"null": `{"currency":156,"categories":{"qr":{"rate":null}}}`, "a null table": "null", "an unknown field": `{"currency":156,"categories":{"qr":{"rate":"0.38%","x":1}}}`,
		"a broken cap": `{"currency":156,"categories":{"qr":{"rate":"0.38%","cap":25.00}}}`, "a cap as text": `{"currency":156,"categories":{"qr":{"rate":"0.38%","cap":"2500"}}}`,
		"an unknown category": `{"currency":156,"categories":{"QR":{"rate":"0.38%"}}}`,
	} {
		if table, err := fromJSON(text); err == nil {
			t.Errorf("%s is read as %+v", what, table)
		}
	}
}

func TestRates(t *testing.T) {
	for text, want := range map[string]string{"0%": "0.00%", "0.6%": "0.60%", "0.60%": "0.60%", "0.6000%": "0.60%", "0.0001%": "0.0001%", "0.125%": "0.125%", "100%": "100.00%", "99.9999%": "99.9999%", "12.5%": "12.50%"} {
		r, err := ParseRate(text)
		if err != nil || r.String() != want {
			t.Errorf("%q: %s, %v", text, r, err)
		}
	}
	for _, text := range []string{
		"", "%", "0.6", "0.6 %", " 0.6%", "0.6%%", ".6%", "6.%", "00.6%", "01%", "+1%", "-1%", "1e1%", "0.00001%", "100.0001%", "101%", "1000%", "0,6%", "٠%", "0x1%", "1_0%", "0.6％",
	} {
		if r, err := ParseRate(text); !errors.Is(err, ErrRate) || r != (Rate{}) {
			t.Errorf("%q: %s, %v", text, r, err)
		}
	}
}

// The fee is the exact part, rounded half up, whatever amount and rate; it is at most the
// amount and the cap, and grows with the amount.
func TestFeeIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		millionths := rapid.Uint32Range(0, whole).Draw(t, "rate")
		amount := rapid.OneOf(rapid.Int64Range(1, 1_000_000), rapid.Int64Min(1)).Draw(t, "amount")
		rule := Rule{Rate: Rate{millionths, true}}
		if rapid.Bool().Draw(t, "capped") {
			most := Minor(rapid.Int64Range(1, 10_000).Draw(t, "cap"))
			rule.Cap = &most
		}
		table := &Table{Currency: voidtoken.CNY, Categories: map[Category]Rule{QR: rule}}
		fee, err := table.Fee("m", QR, amount, voidtoken.CNY)
		if err != nil {
			t.Fatal(err)
		}
		exact := new(big.Rat).Mul(new(big.Rat).SetInt64(amount), big.NewRat(int64(millionths), whole))
		exact.Add(exact, big.NewRat(1, 2))
		want := new(big.Int).Div(exact.Num(), exact.Denom())
		if rule.Cap != nil && want.Cmp(big.NewInt(int64(*rule.Cap))) > 0 {
			want.SetInt64(int64(*rule.Cap))
		}
		if want.Cmp(big.NewInt(fee)) != 0 || fee < 0 || fee > amount {
			t.Fatalf("%s of %d: %d, want %s", rule.Rate, amount, fee, want)
		}
		if amount < math.MaxInt64 {
			if more, err := table.Fee("m", QR, amount+1, voidtoken.CNY); err != nil || more < fee {
				t.Fatalf("%d of %d, but %d of one more, %v", fee, amount, more, err)
			}
		}
	})
}

// Whatever has the form of a rate comes back as it was.
func TestRatesThereAndBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Rate{rapid.Uint32Range(0, whole).Draw(t, "rate"), true}
		text, err := r.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var again Rate
		if err := again.UnmarshalText(text); err != nil || again != r {
			t.Fatalf("%s is read as %s, %v", text, again, err)
		}
	})
}

func FuzzParseRate(f *testing.F) {
	f.Add("0.60%")
	f.Add("100.0001%")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRate(text)
		if err != nil {
			if !errors.Is(err, ErrRate) || r != (Rate{}) {
				t.Fatal(r, err)
			}
			return
		}
		if value, ok := new(big.Rat).SetString(strings.TrimSuffix(text, "%")); !ok || value.Mul(value, big.NewRat(whole/100, 1)).Cmp(new(big.Rat).SetInt64(int64(r.millionths))) != 0 || r.millionths > whole {
			t.Fatalf("%q is read as %s", text, r)
		}
	})
}
