package voidtoken_test

import (
	"math"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"keyd/voidtoken"
)

func TestAmountsAsPrinted(t *testing.T) {
	for _, c := range []struct {
		currency voidtoken.Currency
		amount   int64
		want     string
	}{
		{156, 12345, "123.45 CNY"}, {156, 5, "0.05 CNY"}, {156, 100, "1.00 CNY"}, {156, 0, "0.00 CNY"}, {156, -5, "-0.05 CNY"},
		{36, 10, "0.10 AUD"}, {392, 500, "500 JPY"}, {410, 1, "1 KRW"}, {48, 1, "0.001 BHD"}, {414, 1234567, "1234.567 KWD"}, {344, 99, "0.99 HKD"},
		{156, math.MaxInt64, "92233720368547758.07 CNY"}, {156, math.MinInt64, "-92233720368547758.08 CNY"},
		{0, 1, ""}, {999, 1, ""}, {959, 1, ""}, {65535, 1, ""},
	} {
		if got := c.currency.Format(c.amount); got != c.want {
			t.Errorf("%d of %d: %q, want %q", c.amount, c.currency, got, c.want)
		}
	}
}

func TestCurrencies(t *testing.T) {
	codes := map[string]voidtoken.Currency{}
	for _, c := range voidtoken.Currencies() {
		code, decimals, ok := c.Code(), 0, false
		if decimals, ok = c.Exponent(); !ok || decimals < 0 || decimals > 4 || !c.Valid() || c == 0 || c > 999 {
			t.Errorf("%d: %d, %t", c, decimals, ok)
		}
		if len(code) != 3 || strings.Trim(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" || codes[code] != 0 {
			t.Errorf("%d: %q, as %d", c, code, codes[code])
		}
		codes[code] = c
	}
	if len(codes) != 156 {
		t.Errorf("%d currencies", len(codes))
	}
	for _, c := range []voidtoken.Currency{0, 959, 960, 963, 999, 990, 1000} { // gold, drawing rights, tests, none, a fund
		if decimals, ok := c.Exponent(); ok || decimals != 0 || c.Valid() || c.Code() != "" {
			t.Errorf("%d is a currency", c)
		}
	}
}

// What is printed, read as a number, is the amount.
func TestFormatLosesNothing(t *testing.T) {
	all := voidtoken.Currencies()
	rapid.Check(t, func(t *rapid.T) {
		c, amount := rapid.SampledFrom(all).Draw(t, "currency"), rapid.Int64().Draw(t, "amount")
		number, code, _ := strings.Cut(c.Format(amount), " ")
		value, ok := new(big.Rat).SetString(number)
		if !ok || code != c.Code() {
			t.Fatalf("%d of %d: %q", amount, c, number)
		}
		decimals, _ := c.Exponent()
		scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(decimals)), nil)
		if value.Mul(value, new(big.Rat).SetInt(scale)).Cmp(new(big.Rat).SetInt64(amount)) != 0 {
			t.Fatalf("%d of %d: %q", amount, c, number)
		}
	})
}
