package fetch

import (
	"context"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
)

// checkURL judges what can be judged without looking anything up: the scheme, credentials, and the form of the host.
func checkURL(u *url.URL) error {
	host := u.Hostname()
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return refused("it is not http")
	case u.Opaque != "" || host == "":
		return refused("it names no host")
	case u.User != nil:
		return refused("it carries credentials")
	case len(host) > 253:
		return refused("its host takes %d bytes", len(host))
	case strings.Contains(host, "%"):
		return refused("its host has a zone, which is of this machine alone")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return refused("its port is none")
		}
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	if endsInNumber(host) {
		return refused("its host is a number, and no address in the usual form")
	}
	for _, r := range host {
		// What a resolver or a proxy could take for something else. Other scripts come as xn-- in certificates.
		ok := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '.' || r == '_'
		if !ok {
			return refused("its host is no name")
		}
	}
	return nil
}

// endsInNumber reports whether resolvers would read the host as an IPv4 address in some old form: 2130706433, 0x7f.1, 127.1, 0177.0.0.1.
func endsInNumber(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	last := host[strings.LastIndexByte(host, '.')+1:]
	if last == "" {
		return false
	}
	if digits, ok := strings.CutPrefix(last, "0x"); ok {
		return strings.Trim(digits, "0123456789abcdef") == ""
	}
	return strings.Trim(last, "0123456789") == ""
}

// checkHost judges a literal host, before anything is asked of a network.
func (g *guard) checkHost(host string) error {
	if g.AllowPrivate {
		return nil
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return g.judge(a)
	}
	if name := canonical(host); name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return private("the host %s is this machine", shown(host))
	}
	return nil
}

// control judges the address that is about to be dialled, when no more names are looked up (DNS rebinding).
func (g *guard) control(_ context.Context, network, address string, _ syscall.RawConn) error {
	if g.AllowPrivate {
		return nil
	}
	if !strings.HasPrefix(network, "tcp") {
		return private("the network %s is none to go out by", network)
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return private("the address %s cannot be judged", shown(address))
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return private("the address %s cannot be judged", shown(address))
	}
	return g.judge(a)
}

func checkAddress(a netip.Addr) error {
	if why := reserved(a); why != "" {
		return private("the address %s is %s", a, why)
	}
	return nil
}

// A block of addresses that are not of the public internet, by the IANA special-purpose registries (RFC 6890).
type block struct {
	prefix netip.Prefix
	what   string
}

const (
	isThis    = "this machine's own"
	isPrivate = "private"
	isLocal   = "link-local, where clouds keep credentials"
	isMulti   = "multicast"
	isSpecial = "reserved"
	isTunnel  = "a tunnel's, which may lead to a private one"
)

func blocks4() []block {
	return []block{
		{netip.MustParsePrefix("0.0.0.0/8"), isThis},
		{netip.MustParsePrefix("10.0.0.0/8"), isPrivate},
		{netip.MustParsePrefix("100.64.0.0/10"), "shared by a provider's customers"},
		{netip.MustParsePrefix("127.0.0.0/8"), isThis},
		{netip.MustParsePrefix("168.63.129.16/32"), "Azure's for virtual machines alone"},
		{netip.MustParsePrefix("169.254.0.0/16"), isLocal},
		{netip.MustParsePrefix("172.16.0.0/12"), isPrivate},
		{netip.MustParsePrefix("192.0.0.0/24"), isSpecial},
		{netip.MustParsePrefix("192.0.2.0/24"), isSpecial},
		{netip.MustParsePrefix("192.88.99.0/24"), isTunnel},
		{netip.MustParsePrefix("192.168.0.0/16"), isPrivate},
		{netip.MustParsePrefix("198.18.0.0/15"), isSpecial},
		{netip.MustParsePrefix("198.51.100.0/24"), isSpecial},
		{netip.MustParsePrefix("203.0.113.0/24"), isSpecial},
		{netip.MustParsePrefix("224.0.0.0/4"), isMulti},
		{netip.MustParsePrefix("240.0.0.0/4"), isSpecial},
	}
}

// blocks6 are those within 2000::/3: of IPv6 nothing else is public.
func blocks6() []block {
	return []block{
		{netip.MustParsePrefix("2001::/23"), isTunnel}, // Teredo, ORCHID, benchmarks
		{netip.MustParsePrefix("2001:db8::/32"), isSpecial},
		{netip.MustParsePrefix("2002::/16"), isTunnel}, // 6to4
		{netip.MustParsePrefix("3fff::/20"), isSpecial},
	}
}

// reserved says what keeps an address from being one of the public internet, "" if nothing does.
func reserved(a netip.Addr) string {
	if a.Zone() != "" {
		return isLocal
	}
	a = a.Unmap() // ::ffff:0:0/96
	if a.Is4() {
		return within(a, blocks4())
	}
	// Behind NAT64 the whole public internet has such addresses, and the private one too (RFC 6052).
	if netip.MustParsePrefix("64:ff9b::/96").Contains(a) {
		b := a.As16()
		return within(netip.AddrFrom4([4]byte(b[12:])), blocks4())
	}
	if why := within(a, blocks6()); why != "" {
		return why
	}
	switch {
	case netip.MustParsePrefix("2000::/3").Contains(a):
		return ""
	case a.IsLoopback() || a.IsUnspecified():
		return isThis
	case a.IsPrivate():
		return isPrivate
	case a.IsLinkLocalUnicast():
		return isLocal
	case a.IsMulticast():
		return isMulti
	}
	return isSpecial
}

func within(a netip.Addr, blocks []block) string {
	for _, b := range blocks {
		if b.prefix.Contains(a) {
			return b.what
		}
	}
	return ""
}

// isLocalName reports whether a name is looked up in the inside of a network alone: one without a dot, and those set aside by
// RFC 6761, RFC 6762, RFC 8375 and ICANN. It is asked where a proxy does the looking up.
func isLocalName(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return false
	}
	name := canonical(host)
	if !strings.Contains(name, ".") {
		return true
	}
	for _, suffix := range []string{".localhost", ".local", ".localdomain", ".internal", ".home.arpa"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}

func canonical(host string) string { return strings.ToLower(strings.TrimSuffix(host, ".")) }
