package fees

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"keyd/voidtoken"
)

// Errors.
var (
	// ErrTable is wrapped in an error that says where a table is wrong, and what belongs there.
	ErrTable = errors.New("fee table")

	ErrMerchant = errors.New("a merchant's identifier has 1 to 64 letters, digits and ._-, the first a letter or a digit")
	ErrCategory = errors.New("the fee table has no such category of payments: say one that it has, or add it")
	ErrCurrency = errors.New("the fee table is for another currency")
	ErrAmount   = errors.New("an amount is in minor units, more than 0")
)

// Category is what a payment counts as where its fee is reckoned. Each payment is of one, which
// who recorded it says: the merchant's kind for a credit card, or else the means of payment.
type Category string

// The categories. There are no others.
const (
	StandardMerchant Category = "standard"       // 标准类
	Concession       Category = "concession"     // 优惠类
	PublicWelfare    Category = "public_welfare" // 公益类
	DebitCard        Category = "debit"          // 借记卡
	QR               Category = "qr"             // 扫码
	UnionPayQR       Category = "unionpay_qr"    // 银联二维码
)

var categories = []Category{StandardMerchant, Concession, PublicWelfare, DebitCard, QR, UnionPayQR}

// Categories returns all categories.
func Categories() []Category { return slices.Clone(categories) }

// Valid reports whether a category is one of those above.
func (c Category) Valid() bool { return slices.Contains(categories, c) }

// Minor is an amount in minor units.
type Minor int64

// UnmarshalYAML reads whole minor units, digits only. The YAML library would take 25.00, with
// which somebody meant 2500, for 25.
func (m *Minor) UnmarshalYAML(text []byte) error {
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return errors.New("an amount is a whole number of minor units: 2500 for 25.00 CNY")
	}
	*m = Minor(n)
	return nil
}

// Rule is how a fee is reckoned.
type Rule struct {
	Rate Rate   `json:"rate" yaml:"rate"`                   // "0.60%"
	Cap  *Minor `json:"cap,omitempty" yaml:"cap,omitempty"` // minor units, more than 0; none when it is not set
}

// Table is what merchants pay for payments. It is read strictly: see [Table.Validate] for what a
// decoder cannot see, and have the decoder refuse fields that it does not know.
type Table struct {
	Currency voidtoken.Currency `json:"currency" yaml:"currency"` // ISO 4217 numeric: 156

	// Categories are the rules for all merchants.
	Categories map[Category]Rule `json:"categories" yaml:"categories"`

	// Merchants are rules that take the place of those above for one merchant, category by
	// category: a rule is replaced as a whole, its cap too.
	Merchants map[string]map[Category]Rule `json:"merchants,omitempty" yaml:"merchants,omitempty"`
}

// Standard returns the common table of the market in mainland China, to begin with: 0.60 %,
// concession 0.38 %, public welfare 0, debit cards 0.50 % and 25 CNY at most, QR codes 0.38 %,
// UnionPay's 0.60 %. What a merchant pays stands in its contract.
func Standard() *Table {
	rate := func(millionths uint32) Rule { return Rule{Rate: Rate{millionths, true}} }
	debit, most := rate(5000), Minor(2500)
	debit.Cap = &most
	return &Table{Currency: voidtoken.CNY, Categories: map[Category]Rule{
		StandardMerchant: rate(6000), Concession: rate(3800), PublicWelfare: rate(0), DebitCard: debit, QR: rate(3800), UnionPayQR: rate(6000),
	}}
}

// Validate checks a table. The error wraps [ErrTable]; it is the same for the same table.
func (t *Table) Validate() error {
	if !t.Currency.Valid() {
		return fmt.Errorf("%w: currency is the number of a currency in use (ISO 4217), such as 156", ErrTable)
	}
	if len(t.Categories) == 0 {
		return fmt.Errorf("%w: categories has at least one of %v", ErrTable, categories)
	}
	if err := validRules("categories", t.Categories); err != nil {
		return err
	}
	for _, merchant := range slices.Sorted(maps.Keys(t.Merchants)) {
		if !voidtoken.ValidName(merchant) {
			return fmt.Errorf("%w: merchants: %q is no merchant's identifier: 1 to 64 letters, digits and ._-, the first a letter or a digit", ErrTable, merchant)
		}
		rules := t.Merchants[merchant]
		if len(rules) == 0 {
			return fmt.Errorf("%w: merchants.%s has no category: give it one, or remove the line", ErrTable, merchant)
		}
		if err := validRules("merchants."+merchant, rules); err != nil {
			return err
		}
	}
	return nil
}

func validRules(where string, rules map[Category]Rule) error {
	for _, category := range slices.Sorted(maps.Keys(rules)) {
		if err := rules[category].validate(where, category); err != nil {
			return err
		}
	}
	return nil
}

func (r Rule) validate(where string, category Category) error {
	switch {
	case !category.Valid():
		return fmt.Errorf("%w: %s: %q is no category; there are %v", ErrTable, where, category, categories)
	case !r.Rate.set:
		return fmt.Errorf("%w: %s.%s has no rate: write 0.00%% where nothing is charged", ErrTable, where, category)
	case r.Cap != nil && *r.Cap <= 0:
		return fmt.Errorf("%w: %s.%s: cap is in minor units, more than 0: remove it where there is none", ErrTable, where, category)
	}
	return nil
}

// Fee returns what a merchant was charged for a payment, and gets back when it is voided, in
// minor units: from 0 to the amount. Without an error there is a rule that says so. Errors are
// [ErrMerchant], [ErrCategory], [ErrCurrency], [ErrAmount], and for the rule at hand that of
// [Table.Validate].
func (t *Table) Fee(merchant string, category Category, amount int64, currency voidtoken.Currency) (int64, error) {
	if !voidtoken.ValidName(merchant) {
		return 0, ErrMerchant
	}
	rule, ok := t.Merchants[merchant][category]
	if !ok {
		rule, ok = t.Categories[category]
	}
	switch {
	case !ok || !category.Valid():
		return 0, ErrCategory
	case currency != t.Currency || !currency.Valid():
		return 0, ErrCurrency
	case amount <= 0:
		return 0, ErrAmount
	}
	if err := rule.validate("rule", category); err != nil {
		return 0, err
	}
	fee := rule.Rate.of(amount)
	if rule.Cap != nil {
		fee = min(fee, int64(*rule.Cap))
	}
	return fee, nil
}
