package policies

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // the front may not read the system's; and every host means the same
)

// hours is a time of the week: from one minute of the day to another, on some days.
type hours struct {
	days     [7]bool // by time.Weekday
	from, to int     // minutes since midnight; to is excluded
	zone     *time.Location
}

// weekdays are the names of days in a condition, by time.Weekday.
var weekdays = []string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"}

// parseHours reads "Mon-Fri 08:00-18:00", "Sat,Sun 00:00-24:00" or "Fri 22:00-06:00" and
// the name of a time zone. Hours that run past midnight belong to the day on which they
// begin.
func parseHours(text, zone string) (hours, error) {
	var h hours
	days, clock, ok := strings.Cut(text, " ")
	if !ok {
		return h, fmt.Errorf("%q is no time of the week; write days and hours, as in \"Mon-Fri 08:00-18:00\"", text)
	}
	if err := h.setDays(days); err != nil {
		return h, err
	}
	from, to, ok := strings.Cut(clock, "-")
	if !ok {
		return h, fmt.Errorf("%q are no hours; write them as 08:00-18:00", clock)
	}
	var err error
	if h.from, err = minutes(from); err != nil {
		return h, err
	}
	if h.to, err = minutes(to); err != nil {
		return h, err
	}
	if h.from == h.to || h.from == 24*60 {
		return h, fmt.Errorf("%q is no time at all; the whole day is 00:00-24:00", clock)
	}
	h.zone, err = timeZone(zone)
	return h, err
}

func (h *hours) setDays(text string) error {
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, to := weekday(first), weekday(last)
		if from < 0 || to < 0 {
			return fmt.Errorf("%q are no days of the week; write Mon, Mon-Fri or Sat,Sun", part)
		}
		for day := from; ; day = (day + 1) % 7 {
			h.days[day] = true
			if day == to {
				break
			}
		}
	}
	return nil
}

func weekday(name string) int {
	for i, day := range weekdays {
		if day == name {
			return i
		}
	}
	return -1
}

// minutes reads "08:00" to "24:00".
func minutes(text string) (int, error) {
	if len(text) == 5 && text[2] == ':' {
		h, errH := strconv.ParseUint(text[:2], 10, 8)
		m, errM := strconv.ParseUint(text[3:], 10, 8)
		if errH == nil && errM == nil && m < 60 && (h < 24 || h == 24 && m == 0) {
			return int(h*60 + m), nil
		}
	}
	return 0, fmt.Errorf("%q is no time of day; write it as 08:00, at most 24:00", text)
}

// zones are those that were loaded. There are no more than the time-zone database has.
var zones sync.Map // string to *time.Location

func timeZone(name string) (*time.Location, error) {
	if zone, ok := zones.Load(name); ok {
		return zone.(*time.Location), nil
	}
	if name == "" || name == "Local" { // that would be another on each host
		return nil, fmt.Errorf("%q is no time zone; write one of the IANA database, such as \"Europe/Zurich\" or \"UTC\"", name)
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("%q is no time zone; write one of the IANA database, such as \"Europe/Zurich\" or \"UTC\"", name)
	}
	zones.Store(name, zone)
	return zone, nil
}

// cover reports whether t is in these hours, by the zone's wall clock.
func (h hours) cover(t time.Time) bool {
	t = t.In(h.zone)
	day, minute := t.Weekday(), t.Hour()*60+t.Minute()
	if h.from < h.to {
		return h.days[day] && h.from <= minute && minute < h.to
	}
	return h.days[day] && minute >= h.from || h.days[(day+6)%7] && minute < h.to
}
