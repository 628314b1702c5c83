// Every text of the pages, in both languages, and which one is shown. The choice is kept nowhere.

const texts = {
  zh: {
    language: "中文",
    switched: "已切换到中文",
    actions: "操作",

    loading: "正在读取…",
    loading_more: "网络慢时可能要几十秒，请不要关闭页面。",
    sending: "正在提交…",
    sending_more: "请不要关闭页面。网络中断时会自动重发同一个请求，不会重复批准。",

    void_title: "批准撤销？",
    void_lead: "整笔付款将退回给顾客。请先核对金额。",
    merchant: "商户",
    terminal: "终端",
    reference: "付款编号",
    paid_at: "付款时间",
    time_left: "剩余时间",
    seconds_left: (n) => `${n} 秒`,
    minutes_left: (m, s) => `${m} 分 ${s} 秒`,
    soon_over: "二维码还有 30 秒失效",
    approve_passkey: "用通行密钥批准",
    use_pin: "用主管密码",

    confirming: "请在手机上确认",
    confirming_more: "用指纹、面容或锁屏密码确认。取消则不会批准。",
    not_confirmed: "没有确认",
    not_confirmed_more: "操作被取消、超时，或这部手机上没有您的通行密钥。撤销没有被批准，可以再试。",

    who_title: "主管",
    who_lead: "输入您登记时的名称（不是姓名，也不是密码）。",
    who_name: "名称",
    who_name_hint: "字母、数字和 . _ -，以字母开头",
    who_name_wrong: "名称由字母、数字和 . _ - 组成，以字母开头，最多 64 个字符。",
    who_where: "您是谁的主管？",
    who_of_shop: (name) => `整个商户（${name}）`,
    who_of_terminal: (name) => `仅这台终端（${name}）`,
    next: "下一步",

    pad_pin: (name) => `${name} 的密码`,
    pad_pin_lead: "用手遮挡屏幕。密码在手机上加密，只对这一笔撤销有效。",
    pad_approve: (amount) => `批准撤销 ${amount}`,
    pad_digits: (n) => `已输入 ${n} 位`,
    pad_erased: (n) => `已删除一位，还有 ${n} 位`,
    pad_least: (n) => `至少 ${n} 位`,
    pad_exactly: (n) => `需要 ${n} 位`,
    pad_most: (n) => `最多 ${n} 位`,
    pad_erase: "删除一位",
    pad_keys: "数字键盘",
    done: "完成",
    back: "返回",
    again: "再试一次",
    send_again: "重新发送",
    look_again: "查看结果",

    approved: "已批准",
    approved_more: "终端会自动继续，不用再做什么。请等终端显示“已撤销”后再退钱或继续收款。可以关闭此页面。",
    partly: "您的批准已记录",
    partly_more: "这笔撤销还需要另一个人批准，请按终端提示继续。",
    already: "已经批准",
    already_more: "这笔撤销之前已经批准，终端会继续处理。不用再批准。",
    not_verified: "未通过验证",
    not_verified_more: (n) => `撤销没有被批准。这笔撤销还可以试 ${n} 次。`,
    not_accepted: "未被接受",
    not_accepted_more: "撤销没有被批准。请用别的方式授权，或联系收单机构。",
    declined: "已拒绝",
    declined_more: "这笔撤销已被拒绝，钱没有退。新的这一单请换一种付款方式，或联系收单机构。",
    cancelled: "已取消",
    cancelled_more: "店里取消了这笔撤销，钱没有退。",
    scanned: "正在终端上处理",
    scanned_more: "这个二维码已在终端上使用，请在终端上继续。",
    expired: "已过期",
    expired_more: "请让终端重新出示一个二维码，再扫一次。",
    unusable: "这个二维码不能用",
    unusable_more: "它可能已经用过、已过期或被改动。请让终端重新出示一个。",
    elsewhere: "不能在手机上批准",
    elsewhere_more: "这笔撤销的金额或规则要求别的授权方式，请按终端提示操作。",
    too_many: "次数太多",
    too_many_more: "请过几分钟再试。主管密码也可能已被锁定：请联系收单机构。",
    busy: "服务繁忙",
    busy_more: "什么都没有丢失。请稍等片刻，再发送同一个请求。",
    no_answer: "没有收到应答",
    no_answer_more: "还不知道结果。可以放心重新发送：同一个请求只算一次。",
    offline: "没有网络",
    offline_more: "手机没有联网。连上网络后再发送，同一个请求只算一次。",
    internal: "服务出错",
    internal_more: "请联系收单机构。请不要退现金，先看终端上的结果。",
    refused: "请求被拒绝",
    refused_more: "请重新扫描二维码或重新打开链接。",
    old: "浏览器太旧",
    old_more: "这个浏览器不能安全地处理密码或通行密钥。请用手机自带浏览器的最新版本打开，或在终端上授权。",
    passkey_old: "此浏览器不支持通行密钥。",
    forged: "请不要输入密码",
    forged_more: "这个页面的密钥没有通过检查：页面可能被改动，或手机的日期时间不对。请核对手机时间，然后联系收单机构。",

    link_wrong: "链接不能用",
    link_wrong_more: "链接已经用过、已过期，或没有复制完整。请向审批人要新的链接和代码。",
    set_pin: "设置主管密码",
    set_passkey: "设置通行密钥",
    set_pin_lead: "只有您本人设置。审批人会读出一个 8 位数字的代码。",
    set_passkey_lead: "通行密钥留在这部手机里，用指纹、面容或锁屏密码批准撤销。审批人会读出一个 8 位数字的代码。",
    person: "名称",
    until: "有效期至",
    whole_shop: "整个商户",
    begin: "开始",
    code_title: "输入代码",
    code_lead: "审批人读给您的 8 位数字。",
    pin_title: "新密码",
    pin_lead: (n) => `${n} 到 12 位数字，不要用 123456 或生日。用手遮挡屏幕。`,
    repeat_title: "再输一次新密码",
    repeat_lead: "和刚才一样。",
    differ: "两次密码不一样",
    differ_more: "请重新输入新密码。",
    weak: "密码太简单",
    weak_more: "这样的密码别人容易猜到。请换一个。",
    choose_other: "换一个密码",
    create_title: "创建通行密钥",
    create_lead: "手机会问您是否保存，请用指纹、面容或锁屏密码确认。",
    create: "创建通行密钥",
    create_failed: "没有创建",
    create_failed_more: "操作被取消或超时，或这部手机不支持。可以再试。",
    code_wrong: "代码不对",
    code_wrong_more: "请和审批人核对后再输一次。代码一共只能试 3 次。",
    code_again: "重新输入代码",
    pin_set: "密码已设置",
    pin_set_more: "旧密码已失效。请记住新密码，不要告诉任何人，也不要写下来。可以关闭此页面。",
    passkey_set: "通行密钥已设置",
    passkey_set_more: "现在可以扫描二维码，用这部手机批准撤销。手机丢失请立即报告。可以关闭此页面。",

    guide_void: "这是什么？要注意什么？",
    guide_void_what: "顾客的一笔付款要在当天取消，需要主管同意。您在这里同意一次，只对这一笔有效。",
    guide_void_look: "先看网址是不是收单机构告诉您的，再看金额和商户，和终端上的一样才批准。",
    guide_void_never: "绝不：替别人批准没看见的撤销；在别人发来的链接里输入密码；把密码告诉任何人。收单机构不会打电话问密码。",
    guide_set: "这是什么？要注意什么？",
    guide_set_what: "两位审批人已经同意您设置。链接只告诉页面您是谁，代码才让您设置。",
    guide_set_look: "先看网址是不是收单机构告诉您的，再看商户和名称是不是您自己的。",
    guide_set_never: "绝不：把代码或密码告诉别人；替别人设置；在不认识的网址输入。收单机构不会打电话问密码。",
  },

  en: {
    language: "English",
    switched: "Now in English",
    actions: "What to do",

    loading: "Reading…",
    loading_more: "On a slow network this can take half a minute. Keep the page open.",
    sending: "Sending…",
    sending_more: "Keep the page open. If the network breaks, the same request is sent again; it never counts twice.",

    void_title: "Approve this void?",
    void_lead: "The whole payment goes back to the customer. Check the amount first.",
    merchant: "Shop",
    terminal: "Terminal",
    reference: "Payment",
    paid_at: "Paid",
    time_left: "Time left",
    seconds_left: (n) => `${n} s`,
    minutes_left: (m, s) => `${m} min ${s} s`,
    soon_over: "The code ends in 30 seconds",
    approve_passkey: "Approve with passkey",
    use_pin: "Use PIN",

    confirming: "Confirm on your phone",
    confirming_more: "With finger, face or screen lock. If you cancel, nothing is approved.",
    not_confirmed: "Not confirmed",
    not_confirmed_more: "It was cancelled, took too long, or this phone has no passkey of yours. Nothing was approved; you can try again.",

    who_title: "Supervisor",
    who_lead: "Your name as it was registered. Not your PIN.",
    who_name: "Name",
    who_name_hint: "Letters, digits and . _ -, a letter first",
    who_name_wrong: "A name has letters, digits and . _ -, begins with a letter, and has at most 64 characters.",
    who_where: "Supervisor of what?",
    who_of_shop: (name) => `The whole shop (${name})`,
    who_of_terminal: (name) => `This terminal only (${name})`,
    next: "Next",

    pad_pin: (name) => `PIN of ${name}`,
    pad_pin_lead: "Cover the screen with your hand. The PIN is enciphered on this phone, for this void alone.",
    pad_approve: (amount) => `Approve void of ${amount}`,
    pad_digits: (n) => (n === 1 ? "1 digit entered" : `${n} digits entered`),
    pad_erased: (n) => `One digit deleted, ${n} left`,
    pad_least: (n) => `${n} digits or more`,
    pad_exactly: (n) => `${n} digits are needed`,
    pad_most: (n) => `No more than ${n} digits`,
    pad_erase: "Delete one digit",
    pad_keys: "Number pad",
    done: "Done",
    back: "Back",
    again: "Try again",
    send_again: "Send again",
    look_again: "See what became of it",

    approved: "Approved",
    approved_more: "The terminal goes on by itself; nothing else is needed. Give no money back before it says “Voided”. You can close this page.",
    partly: "Your approval is noted",
    partly_more: "This void needs another person's too. Go on as the terminal says.",
    already: "Approved already",
    already_more: "This void was approved before, and the terminal goes on with it. Nothing is needed.",
    not_verified: "Not verified",
    not_verified_more: (n) => `The void was not approved. ${n === 1 ? "One try is" : `${n} tries are`} left for it.`,
    not_accepted: "Not accepted",
    not_accepted_more: "The void was not approved. Authorise it in another way, or ask the acquirer.",
    declined: "Declined",
    declined_more: "This void was declined; nothing was paid back. Use another means of payment for the new sale, or ask the acquirer.",
    cancelled: "Cancelled",
    cancelled_more: "The shop has cancelled this void; nothing was paid back.",
    scanned: "In progress at the terminal",
    scanned_more: "This code was used at the terminal. Go on there.",
    expired: "Expired",
    expired_more: "Have the terminal show a new code, and scan that.",
    unusable: "This code cannot be used",
    unusable_more: "It was used before, has expired, or was altered. Have the terminal show a new one.",
    elsewhere: "Not on a phone",
    elsewhere_more: "The amount or the rules of this void need another way. Do as the terminal says.",
    too_many: "Too many tries",
    too_many_more: "Wait some minutes. The PIN may be blocked as well: ask the acquirer.",
    busy: "The service is busy",
    busy_more: "Nothing is lost. Wait a moment, then send the same request again.",
    no_answer: "No answer yet",
    no_answer_more: "The outcome is not known. You can safely send it again: the same request counts once.",
    offline: "Offline",
    offline_more: "The phone has no network. Send it again when it has; the same request counts once.",
    internal: "The service failed",
    internal_more: "Ask the acquirer. Give no cash back; see what the terminal says first.",
    refused: "Refused",
    refused_more: "Scan the code again, or open the link again.",
    old: "The browser is too old",
    old_more: "It cannot handle PINs or passkeys safely. Open this in the newest version of the phone's own browser, or authorise at the terminal.",
    passkey_old: "This browser has no passkeys.",
    forged: "Do not enter a PIN",
    forged_more: "This page's key did not pass the check: the page may have been altered, or the phone's date and time are wrong. Check the time, then call the acquirer.",

    link_wrong: "This link cannot be used",
    link_wrong_more: "It was used before, has expired, or was not copied whole. Ask the approvers for a new link and code.",
    set_pin: "Set your PIN",
    set_passkey: "Set up a passkey",
    set_pin_lead: "Only you set it. An approver reads out a code of 8 digits.",
    set_passkey_lead: "A passkey stays on this phone. With finger, face or screen lock you approve voids. An approver reads out a code of 8 digits.",
    person: "Name",
    until: "Good until",
    whole_shop: "The whole shop",
    begin: "Begin",
    code_title: "Enter the code",
    code_lead: "The 8 digits that the approver reads to you.",
    pin_title: "New PIN",
    pin_lead: (n) => `${n} to 12 digits. Not 123456, and no birthday. Cover the screen with your hand.`,
    repeat_title: "New PIN once more",
    repeat_lead: "The same as before.",
    differ: "The PINs differ",
    differ_more: "Enter the new PIN again.",
    weak: "Too easy to guess",
    weak_more: "Others guess such a PIN. Choose another.",
    choose_other: "Choose another PIN",
    create_title: "Create the passkey",
    create_lead: "The phone asks whether to save it. Confirm with finger, face or screen lock.",
    create: "Create passkey",
    create_failed: "Not created",
    create_failed_more: "It was cancelled, took too long, or this phone cannot do it. You can try again.",
    code_wrong: "Wrong code",
    code_wrong_more: "Check it with the approver and enter it again. There are 3 tries in all.",
    code_again: "Enter the code again",
    pin_set: "Your PIN is set",
    pin_set_more: "The old one is dead. Remember the new one, tell nobody, do not write it down. You can close this page.",
    passkey_set: "Your passkey is set",
    passkey_set_more: "Scan a code, and approve voids with this phone. Report a lost phone at once. You can close this page.",

    guide_void: "What to check first",
    guide_void_what: "A customer's payment is to be taken back on the same day, and a supervisor has to agree. You agree once here, for this one only.",
    guide_void_look: "Look at the address first: is it the one that the acquirer told you? Then at amount and shop. Approve only what the terminal shows as well.",
    guide_void_never: "Never approve a void for others unseen. Never enter a PIN behind a link that somebody sent. Never tell anybody your PIN: the acquirer does not call to ask for it.",
    guide_set: "What to check first",
    guide_set_what: "Two approvers have agreed that you set this. The link only says who you are; the code lets you set it.",
    guide_set_look: "Look at the address first: is it the one that the acquirer told you? Then at shop and name: they are yours.",
    guide_set_never: "Never tell anybody the code or the PIN. Never set one for somebody else. Enter nothing at an address that you do not know. The acquirer does not call to ask for a PIN.",
  },
};

export const languages = Object.keys(texts);

let shown = (navigator.languages ?? [navigator.language]).map((l) => l.slice(0, 2)).find((l) => languages.includes(l)) ?? "en";

const tags = { zh: "zh-CN", en: "en" };

export const language = () => shown;
export const tag = () => tags[shown];
export const nameOf = (l) => texts[l].language;

export function setLanguage(l) {
  shown = l;
}

// A text, with what belongs into it.
export function text(key, ...about) {
  const t = texts[shown][key];
  return typeof t === "function" ? t(...about) : t;
}

// For the test that both languages say the same things.
export const keys = (l) => Object.keys(texts[l]);

// Numbers and times as the language writes them.

// An amount in minor units, exactly: a division would round what is large.
export function number(amount, digits) {
  const text = String(amount).padStart(digits + 1, "0");
  const whole = new Intl.NumberFormat(tag()).format(BigInt(text.slice(0, text.length - digits)));
  return digits ? `${whole}.${text.slice(-digits)}` : whole;
}

export function time(when) {
  return new Intl.DateTimeFormat(tag(), { dateStyle: "medium", timeStyle: "short" }).format(new Date(when));
}

export function currencyName(code) {
  try {
    return new Intl.DisplayNames([tag()], { type: "currency" }).of(code);
  } catch {
    return code;
  }
}
