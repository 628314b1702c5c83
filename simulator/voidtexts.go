package simulator

import (
	"fmt"
	"slices"
	"strings"

	keydv1 "keyd/api/keyd/v1"
	"keyd/voids/flow"
)

// Languages are those that a terminal's display has.
var Languages = []string{"en", "zh"}

// text names what a display says.
type text string

// What a display says at the eight steps of docs/merchant.md, and when it does not work.
const (
	textOn          text = "on"
	textUnfinished  text = "unfinished"
	textFind        text = "find"
	textScan        text = "scan"
	textScanned     text = "scanned"
	textLook        text = "look"
	textMerchant    text = "merchant"
	textPayment     text = "payment"
	textAmount      text = "amount"
	textSupervisor  text = "supervisor"
	textCardholder  text = "cardholder"
	textConfirm     text = "confirm"
	textSending     text = "sending"
	textNoAnswer    text = "no answer"
	textWait        text = "wait"
	textNeeds       text = "needs"
	textElsewhere   text = "elsewhere"
	textOnPhone     text = "on phone"
	textPhone       text = "phone"
	textVoided      text = "voided"
	textWrong       text = "wrong"
	textDeclined    text = "declined"
	textNotReversed text = "not reversed"
	textExpired     text = "expired"
	textCancelled   text = "cancelled"
	textUnknown     text = "unknown"
	textAlready     text = "already"
	textTooLate     text = "too late"
	textLimit       text = "limit"
	textRefused     text = "refused"
	textSlip        text = "slip"
	textBy          text = "by"
	textVoid        text = "void"
	textTime        text = "time"
)

// texts are in the order of [Languages].
var texts = map[text][2]string{
	textOn:          {"connected", "已联网"},
	textUnfinished:  {"a void is not finished: going on with it", "有一笔撤销没有完成，继续处理"},
	textFind:        {"\"Void\": the payment is found, and its code is shown", "“撤销”：找到付款，显示二维码"},
	textScan:        {"\"Void\": scan the code", "“撤销”：请扫描二维码"},
	textScanned:     {"the code is good, and used up now", "二维码有效，现已使用"},
	textLook:        {"look at the amount. Not the one that you expect? Press Cancel", "请核对金额。金额不对请按“取消”"},
	textMerchant:    {"merchant", "商户"},
	textPayment:     {"payment", "付款"},
	textAmount:      {"amount", "金额"},
	textSupervisor:  {"Supervisor's PIN (empty: Cancel)", "主管密码（不输入即取消）"},
	textCardholder:  {"Cardholder's PIN (empty: Cancel)", "银行卡密码（不输入即取消）"},
	textConfirm:     {"Confirm the void? y, or anything else for Cancel", "确认撤销？按 y 确认，其他键取消"},
	textSending:     {"sent. Give no money back yet", "已发送。在此之前不要退现金"},
	textNoAnswer:    {"no answer: asking again", "没有应答，正在重试"},
	textWait:        {"wait for \"Voided\"", "请等待“已撤销”"},
	textNeeds:       {"it takes %s", "需要 %s"},
	textElsewhere:   {"wait: a supervisor elsewhere can approve it", "请等待：可以由别处的主管远程批准"},
	textOnPhone:     {"scan the code with the supervisor's phone, which asks for the passkey or the PIN", "请主管用手机扫码，在手机上用通行密钥或密码批准"},
	textPhone:       {"wait for \"Voided\": it is approved on the phone", "请等待“已撤销”：在手机上批准"},
	textVoided:      {"VOIDED", "已撤销"},
	textWrong:       {"wrong PIN, tries left: %d", "密码错误，还剩 %d 次"},
	textDeclined:    {"DECLINED. Nothing was taken back", "已拒绝。钱没有退"},
	textNotReversed: {"DECLINED by the switch. Nothing was taken back", "交换中心已拒绝。钱没有退"},
	textExpired:     {"EXPIRED. Nobody has authorised it in time", "已过期。没有及时授权"},
	textCancelled:   {"CANCELLED", "已取消"},
	textUnknown:     {"NOT KNOWN whether the payment was reversed (ASK_SWITCH)", "还不知道是否已经退款，请查询交换中心（ASK_SWITCH）"},
	textAlready:     {"ALREADY VOIDED. The money is on its way", "已经撤销过，钱正在退回"},
	textTooLate:     {"TOO LATE for a void: settled, too old, or not of today. Make a refund", "来不及撤销（已结算、时间太久或不是当天），请做退货"},
	textLimit:       {"ABOVE THE LIMIT, or too many today. Ask the acquirer", "超过限额或今天次数太多，请联系收单机构"},
	textRefused:     {"REFUSED (%s)", "不允许撤销（%s）"},
	textSlip:        {"VOID", "撤销凭条"},
	textBy:          {"authorised", "授权"},
	textVoid:        {"number", "编号"},
	textTime:        {"time", "时间"},
}

// steps are the names of the eight steps.
var steps = [...][2]string{
	{"switch on", "开机"}, {"choose void", "选择撤销"}, {"scan", "扫码"}, {"amount", "核对金额"}, {"PIN", "输入密码"}, {"confirm", "确认"}, {"wait", "等待"}, {"go on", "继续收款"},
}

// nextTexts say what to do next.
var nextTexts = map[flow.Next][2]string{
	flow.Scan:        {"scan the code", "请扫码"},
	flow.Authorize:   {"go on with the PIN", "请输入密码"},
	flow.TryAgain:    {"try again slowly", "慢慢再输一次"},
	flow.OtherMethod: {"authorise it in another way: a supervisor elsewhere can approve it", "换一种授权方式：可以由别处的主管远程批准"},
	flow.Reverse:     {"wait: the switch has yet to reverse it", "请等待交换中心处理"},
	flow.AskSwitch:   {"do NOT begin again, give no cash: the acquirer finds out", "不要重新撤销，不要退现金，由收单机构查清"},
	flow.NewVoid:     {"begin again: have a new code shown", "请重新开始，重新出示二维码"},
	flow.OtherMeans:  {"use another means of payment for the new sale, or ask the acquirer", "新的这一单换一种付款方式，或联系收单机构"},
	flow.GoOn:        {"go on with the sale, and keep the slip", "继续收款，并保存小票"},
}

// language is an index into texts.
type language int

func languageNamed(name string) (language, error) {
	at := slices.Index(Languages, name)
	if at < 0 {
		return 0, fmt.Errorf("the display speaks one of %q, not %q", Languages, name)
	}
	return language(at), nil
}

func (l language) say(t text, a ...any) string {
	if len(a) == 0 {
		return texts[t][l]
	}
	return fmt.Sprintf(texts[t][l], a...)
}

func (l language) or() string { return [...]string{"; or ", "；或"}[l] }

// next says what may be done, the best first. What this terminal does not know is left out.
func (l language) next(list []string) string {
	var out []string
	for _, n := range list {
		if t, ok := nextTexts[flow.Next(n)]; ok {
			out = append(out, t[l])
		}
	}
	return strings.Join(out, l.or())
}

// why says what became of a void that is not authorised, or was never made.
func (l language) why(v *keydv1.Void) string {
	switch flow.Refusal(v.GetRefusal()) {
	case "":
	case flow.AlreadyVoided:
		return l.say(textAlready)
	case flow.Settled, flow.NotSameDay, flow.TooOld:
		return l.say(textTooLate)
	case flow.AboveLimit, flow.TooManyToday:
		return l.say(textLimit)
	default:
		return l.say(textRefused, printable(v.GetRefusal()))
	}
	switch v.GetState() {
	case keydv1.Void_CANCELLED:
		return l.say(textCancelled)
	case keydv1.Void_EXPIRED:
		if v.GetConfirmBy() != nil {
			return l.say(textUnknown)
		}
		return l.say(textExpired)
	case keydv1.Void_DECLINED:
		if flow.Result(v.GetResult()) == flow.ResultNotReversed {
			return l.say(textNotReversed)
		}
		return l.say(textDeclined)
	}
	return l.say(textRefused, printable(v.GetResult()))
}

// printable is what a service says, as a display shows it: whoever answers may be anybody.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}
