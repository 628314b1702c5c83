package main

import (
	"fmt"
	"strconv"
	"strings"

	"keyd/config"
	"keyd/hsm/module"
)

// ports is a repeated flag of TCP ports.
type ports []uint16

func (p *ports) Set(text string) error {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return fmt.Errorf("%q is no port", text)
	}
	*p = append(*p, uint16(n))
	return nil
}

func (p *ports) String() string { return strings.Trim(fmt.Sprint([]uint16(*p)), "[]") }

// Type names the value in help texts.
func (p *ports) Type() string { return "port" }

// parseLimits reads "MINUTE,HOUR,DAY", where 0 is no limit.
func parseLimits(text string) (limits [3]int, err error) {
	parts := strings.Split(text, ",")
	if len(parts) != len(limits) {
		return limits, fmt.Errorf("%q is not MINUTE,HOUR,DAY", text)
	}
	last := 0
	for i, p := range parts {
		if limits[i], err = strconv.Atoi(p); err != nil || limits[i] < 0 || limits[i] > config.MaxLimit {
			return limits, fmt.Errorf("%q is not MINUTE,HOUR,DAY, each from 0 (no limit) to %d", text, config.MaxLimit)
		}
		if limits[i] != 0 && limits[i] < last {
			return limits, fmt.Errorf("%q: a longer time has a smaller limit", text)
		}
		last = max(last, limits[i])
	}
	return limits, nil
}

// velocityLimit is a module's flag.
type velocityLimit module.VelocityLimit

func (l *velocityLimit) Set(text string) error {
	n, err := parseLimits(text)
	l.Minute, l.Hour, l.Day = n[0], n[1], n[2]
	return err
}

func (l *velocityLimit) String() string { return fmt.Sprintf("%d,%d,%d", l.Minute, l.Hour, l.Day) }

// Type names the value in help texts.
func (l *velocityLimit) Type() string { return "minute,hour,day" }

// configLimits are limits that a person sets by a flag in place of a configuration.
type configLimits config.Limits

func (l *configLimits) Set(text string) error {
	n, err := parseLimits(text)
	for i, into := range []*config.Limit{&l.Minute, &l.Hour, &l.Day} {
		if *into = config.Limit(n[i]); n[i] == 0 {
			*into = config.Unlimited
		}
	}
	return err
}

func (l *configLimits) String() string {
	if *l == (configLimits{}) {
		return ""
	}
	return fmt.Sprintf("%d,%d,%d", l.Minute, l.Hour, l.Day)
}

// Type names the value in help texts.
func (l *configLimits) Type() string { return "minute,hour,day" }
