package main

import (
	"fmt"
	"strconv"
	"strings"
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
