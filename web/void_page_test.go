package web

import (
	"slices"
	"testing"

	"keyd/pinrecord"
)

func TestAVoidIsApprovedByAPasskey(t *testing.T) {
	p := newPhone(t, serve(t), "en")
	link := p.newLink(pinrecord.Subject{Kind: pinrecord.Passkey, Merchant: "m-17", Name: "dora"})
	p.openLink(link)
	p.title("Set up a passkey")
	p.tap("Begin")
	p.title("Create the passkey")
	p.tap("Create passkey")
	p.title("Enter the code")
	p.pad("40718294")
	p.tap("Next")
	p.title("Wrong code")
	p.tap("Enter the code again")
	p.title("Enter the code")
	p.pad("40718293")
	p.tap("Next")
	p.title("Your passkey is set")
	if got := p.calls(); !slices.Equal(got, []string{"Enrolment", "SetPasskey", "SetPasskey"}) {
		t.Error(got)
	}
	p.openLink(link)
	p.title("This link cannot be used")

	p.openVoid(p.newVoid(nil))
	p.title("Approve this void?")
	p.shows("123.45")
	p.calls()
	p.tap("Approve with passkey")
	p.title("Approved")
	if got := p.calls(); !slices.Equal(got, []string{"ApproveByPasskey"}) {
		t.Error(got)
	}
	p.quiet()
}

func TestAVoidIsApprovedByAPIN(t *testing.T) {
	p := newPhone(t, serve(t), "zh-CN")
	p.openLink(p.newLink(pinrecord.Subject{Kind: pinrecord.Supervisor, Merchant: "m-17", Name: "dora"}))
	p.title("设置主管密码")
	p.tap("开始")
	p.title("输入代码")
	p.pad("40718293")
	p.tap("下一步")
	p.title("新密码")
	p.pad("739104")
	p.tap("下一步")
	p.title("再输一次新密码")
	p.pad("739105")
	p.tap("完成")
	p.title("两次密码不一样")
	p.tap("再试一次")
	p.title("新密码")
	p.pad("123456")
	p.tap("下一步")
	p.title("再输一次新密码")
	p.pad("123456")
	p.tap("完成")
	p.title("密码太简单")
	p.tap("换一个密码")
	p.title("新密码")
	p.pad("739104")
	p.tap("下一步")
	p.title("再输一次新密码")
	p.pad("739104")
	p.tap("完成")
	p.title("密码已设置")
	p.quiet()
}
